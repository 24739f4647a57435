"""The check on a GPU: what it proves, finds, takes and gives back there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.check import check_equivalence
from conv2linear.equivalence.device import ChosenDevice, compute_on
from conv2linear.equivalence.outcome import Equivalence, Step
from conv2linear.errors import DeviceError
from conv2linear.operations.bench.bench import bench
from conv2linear.operations.bench.inputs import INPUT_SIZES, BenchLimits
from tests.equivalence.kernels import (
    CPU,
    CUDA,
    REAL_SHAPE,
    check,
    each_dtype,
    make_bias,
    make_kernel,
)

pytestmark = pytest.mark.cuda


def check_real(device: torch.device, dtype: torch.dtype = torch.float32) -> Equivalence:
    """Check a kernel of GLM-4.5V's size."""
    return check(make_kernel(dtype, REAL_SHAPE), device=device)


@each_dtype
def test_the_real_shape_is_the_same_map_within_the_bound(dtype: torch.dtype) -> None:
    outcome = check_real(CUDA, dtype)
    assert outcome.failure is None
    assert outcome.basis_patches == 1176
    assert outcome.linear is not None
    assert 0 < outcome.linear.max_over_bound <= 1
    if CUDA.type == "cuda":
        assert outcome.environment.device_name == torch.cuda.get_device_name()
        assert outcome.environment.cudnn


@each_dtype
@pytest.mark.parametrize(
    ("fault", "step", "words"),
    [
        ("one value", Step.EQUIVALENCE, "column 1000 of the linear weight is not kernel"),
        ("rolled columns", Step.EQUIVALENCE, "column 0 of the linear weight is not kernel"),
        ("nan", Step.FINITE, "weight is nan at [1535, 1175]"),
        ("bias", Step.EQUIVALENCE, "the zero patch does not give the bias"),
    ],
)
def test_a_fault_in_the_real_shape_is_found(
    fault: str, step: Step, words: str, dtype: torch.dtype
) -> None:
    kernel, bias = make_kernel(dtype, REAL_SHAPE), make_bias(dtype, REAL_SHAPE[0])
    weight, other_bias = kernel.flatten(1).clone(), bias.clone()
    if fault == "one value":
        weight[700, 1000] = torch.nextafter(weight[700, 1000], torch.ones((), dtype=dtype))
    elif fault == "rolled columns":
        weight = weight.roll(1, dims=1)
    elif fault == "nan":
        weight[-1, -1] = float("nan")
    else:
        other_bias[5] += 1
    outcome = check_equivalence(kernel, weight, bias=other_bias, kernel_bias=bias, device=CUDA)
    assert outcome.failed_step is step
    assert outcome.failure is not None
    assert outcome.failure.startswith(words)


@each_dtype
def test_the_same_input_gives_the_same_report_again(dtype: torch.dtype) -> None:
    assert check_real(CUDA, dtype) == check_real(CUDA, dtype)


def test_the_second_device_checks_as_the_first_does(needs_cuda: None) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    first, second = (check_real(torch.device("cuda", index)) for index in range(2))
    assert second.environment.device == "cuda:1"
    assert (second.failure, second.linear) == (None, first.linear)
    with torch.cuda.device(1):
        assert check_real(torch.device("cuda", 0)) == first
        assert torch.cuda.current_device() == 1


def test_another_stream_of_the_caller_changes_nothing(needs_cuda: None) -> None:
    expected, stream = check_real(CUDA), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        assert check_real(CUDA) == expected
        assert torch.cuda.current_stream() == stream


def test_a_check_gives_back_all_memory(needs_cuda: None) -> None:
    check_real(CUDA)  # cuBLAS and cuDNN keep what they took the first time
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    check_real(CUDA)
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_a_check_runs_on_the_cpu_where_the_memory_of_the_gpu_is_full(full_gpu: None) -> None:
    told: list[str] = []
    outcome = compute_on(ChosenDevice(CUDA, fallback=CPU), check_real, warn=told.append)
    assert told == ["not enough memory on cuda: this runs on the CPU instead"]
    assert outcome == check_real(CPU)


def test_a_full_gpu_that_was_asked_for_is_an_error_and_keeps_nothing(full_gpu: None) -> None:
    before = torch.cuda.memory_allocated()
    with pytest.raises(DeviceError, match="not enough memory on cuda") as caught:
        compute_on(ChosenDevice(CUDA), check_real, warn=pytest.fail)
    assert caught.value.exit_code == 2
    assert torch.cuda.memory_allocated() == before


@contextlib.contextmanager
def busy_linear(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """Give the GPU work beside each linear layer; yields how many seconds of work that is."""
    ones = torch.ones(8192, 8192, device=CUDA)
    linear = functional.linear

    def work() -> None:
        torch.mm(ones, ones)

    def busy(*inputs: Any) -> Tensor:
        work()
        return linear(*inputs)

    work()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    end.synchronize()
    with monkeypatch.context() as patch:
        patch.setattr(functional, "linear", busy)
        yield start.elapsed_time(end) / 1e3


def test_the_time_that_bench_measures_is_that_of_the_work_on_the_gpu(
    needs_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with busy_linear(monkeypatch) as work_s:
        kernel = make_kernel()
        weight = kernel.flatten(1).to(CUDA)
        start = time.perf_counter()
        functional.linear(weight, weight)
        begun_s = time.perf_counter() - start
        torch.cuda.synchronize()
        assert begun_s < work_s / 2  # a clock that does not wait sees this
        limits = BenchLimits(inputs=(INPUT_SIZES[0],), budget_s=0, tower_side=None)
        found = bench(dtype="fp32", device=str(CUDA), limits=limits).measurements[0]
        assert found.linear.timing is not None
        assert found.linear.timing.median_s > work_s / 2
