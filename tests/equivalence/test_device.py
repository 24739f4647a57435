"""A device is found or refused."""

from __future__ import annotations

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
    ("number", "version"),
    [(91500, "9.15.0"), (91002, "9.10.2"), (90100, "9.1.0"), (8902, "8.9.2"), (7605, "7.6.5")],
)
def test_a_version_of_cudnn_reads_as_people_write_it(number: int, version: str) -> None:
    assert format_cudnn_version(number) == version
