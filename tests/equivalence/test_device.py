"""A device is found or refused, and the CPU stands in for one that `auto` finds and cannot use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from conv2linear.equivalence.check import check_equivalence
from conv2linear.equivalence.device import (
    ChosenDevice,
    choose_device,
    compute_on,
    device_errors,
    format_cudnn_version,
    resolve_device,
)
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.errors import DeviceError
from tests.equivalence.kernels import CPU, make_bias, make_kernel

META = torch.device("meta")  # computes nothing, as a GPU whose memory is full
CUDA = torch.device("cuda")
FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 MiB.")


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
    told: list[str] = []
    chosen = choose_device("auto", warn=told.append)
    if torch.cuda.is_available():
        assert chosen == ChosenDevice(CUDA, fallback=CPU)
    else:
        assert chosen == ChosenDevice(CPU)
    assert told == []


def test_a_device_that_was_asked_for_has_no_other_to_fall_back_to() -> None:
    names = ["cpu", *(["cuda", "cuda:0"] if torch.cuda.is_available() else [])]
    for name in names:
        chosen = choose_device(name, warn=pytest.fail)
        assert chosen == ChosenDevice(torch.device(name), fallback=None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no kernel image is available"), "no kernel image is available"),
        (FULL, "not enough memory on cuda"),
        (AssertionError("Torch not compiled with CUDA enabled"), "not compiled with CUDA"),
    ],
    ids=["no kernel", "full", "no CUDA"],
)
def test_auto_is_cpu_with_a_warning_where_cuda_is_there_and_cannot_compute(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*inputs: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", broken)
    told: list[str] = []
    assert choose_device("auto", warn=told.append) == ChosenDevice(CPU)
    (warning,) = told
    assert reason in warning
    assert warning.endswith(": this runs on the CPU instead")


@pytest.mark.parametrize(
    ("free_bytes", "chosen"),
    [
        (1 << 20, ChosenDevice(CPU)),
        ((1 << 30) - 1, ChosenDevice(CPU)),
        (1 << 30, ChosenDevice(CUDA, CPU)),
    ],
)
def test_auto_is_cuda_where_it_has_memory_to_spare(
    free_bytes: int, chosen: ChosenDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = torch.ones
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_bytes, 80 << 30))
    monkeypatch.setattr(torch, "ones", lambda *shape, dtype, device: ones(*shape, dtype=dtype))
    told: list[str] = []
    assert choose_device("auto", warn=told.append) == chosen
    assert told == (
        []
        if chosen.fallback
        else [
            f"cuda has {free_bytes / 1e9:.2g} GB of free memory, the check may take 1.1 GB: "
            "this runs on the CPU instead"
        ]
    )


def check_on(device: torch.device) -> Equivalence:
    kernel, bias = make_kernel(), make_bias()
    return check_equivalence(kernel, kernel.flatten(1), bias=bias, kernel_bias=bias, device=device)


def test_a_check_runs_on_the_cpu_where_the_chosen_device_cannot_compute_it() -> None:
    told: list[str] = []
    outcome = compute_on(ChosenDevice(META, fallback=CPU), check_on, warn=told.append)
    assert outcome.failure is None
    assert outcome.environment.device == "cpu"
    (warning,) = told
    assert warning.startswith("meta cannot compute the linear layer: ")
    assert warning.endswith(": this runs on the CPU instead")


def test_a_device_that_was_asked_for_and_cannot_compute_is_an_error() -> None:
    with pytest.raises(DeviceError, match="meta cannot compute"):
        compute_on(ChosenDevice(META), check_on, warn=pytest.fail)


def test_tensors_of_what_failed_are_let_go_though_the_error_is_kept() -> None:
    class Watched:
        alive = False

        def __init__(self) -> None:
            Watched.alive = True

        def __del__(self) -> None:
            Watched.alive = False

    def fail() -> None:
        kept = Watched()
        raise torch.cuda.OutOfMemoryError(f"CUDA out of memory beside {kept}")

    with pytest.raises(DeviceError) as caught, device_errors(CPU):
        fail()
    assert caught.value.__cause__ is not None
    assert not Watched.alive


@pytest.mark.parametrize(
    ("number", "version"),
    [(91500, "9.15.0"), (91002, "9.10.2"), (90100, "9.1.0"), (8902, "8.9.2"), (7605, "7.6.5")],
)
def test_a_version_of_cudnn_reads_as_people_write_it(number: int, version: str) -> None:
    assert format_cudnn_version(number) == version
