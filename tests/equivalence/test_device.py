"""A device is found or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from conv2linear.equivalence.device import format_cudnn_version, resolve_device
from conv2linear.errors import DeviceError
from tests.equivalence.kernels import CPU


@pytest.mark.parametrize("name", ["tpu", "mps", "meta", "", "cuda:x", "cpu0"])
def test_a_device_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)


def test_a_cuda_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="'cuda:99' is not there") as caught:
        resolve_device("cuda:99")
    assert caught.value.hint is not None
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="'cuda' is not there: 0 CUDA devices"):
            resolve_device("cuda")


def test_auto_is_cuda_where_there_is_one_and_cpu_else() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize(
    "error", [RuntimeError("no kernel image is available"), torch.cuda.OutOfMemoryError()], ids=repr
)
def test_auto_is_cpu_where_cuda_is_there_and_cannot_compute(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*inputs: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch.cuda.is_available()
    monkeypatch.setattr(torch, "ones", broken)
    assert resolve_device("auto") == CPU


@pytest.mark.parametrize(("free_bytes", "device"), [(1 << 20, "cpu"), (8 << 30, "cuda")])
def test_auto_is_cuda_where_it_has_memory_to_spare(
    free_bytes: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = torch.ones
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_bytes, 80 << 30))
    monkeypatch.setattr(torch, "ones", lambda *shape, dtype, device: ones(*shape, dtype=dtype))
    assert resolve_device("auto").type == device


@pytest.mark.parametrize(
    ("number", "version"),
    [(91500, "9.15.0"), (91002, "9.10.2"), (90100, "9.1.0"), (8902, "8.9.2"), (7605, "7.6.5")],
)
def test_a_version_of_cudnn_reads_as_people_write_it(number: int, version: str) -> None:
    assert format_cudnn_version(number) == version
