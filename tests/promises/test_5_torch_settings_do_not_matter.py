"""The caller's torch settings neither change the outcome of the check, nor come back changed."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.load import load_tensor
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.errors import DeviceError
from tests.equivalence.kernels import CPU, check, each_device, each_dtype, make_kernel
from tests.promises.torch_settings import (
    CUDNN,
    CUDNN_FLAGS,
    MATMUL,
    OPERATIONS,
    SETTINGS,
    precision,
    read_precision,
    read_settings,
    write_precision,
)

needs_both_apis = pytest.mark.skipif(
    not hasattr(torch._C, "_get_fp32_precision_getter"), reason="torch has one API for precision"
)
each_setting = pytest.mark.parametrize("name", SETTINGS)


@needs_both_apis
@each_device
@each_setting
@each_dtype
def test_a_setting_changes_no_outcome_and_is_not_changed(
    name: str, dtype: torch.dtype, device: torch.device
) -> None:
    kernel = make_kernel(dtype)
    bias = torch.zeros(len(kernel), dtype=dtype)
    expected = check(kernel, bias=bias, device=device)
    assert expected.failure is None
    assert expected.warning is None or device != CPU  # a GPU's Conv3d may be wrong
    with SETTINGS[name]():
        before = read_settings()
        outcome = check(kernel, bias=bias, device=device)
        assert read_settings() == before
    assert outcome == expected


@needs_both_apis
@each_setting
def test_a_setting_is_not_changed_where_the_check_raises(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*inputs: Any, **options: Any) -> Tensor:
        raise RuntimeError("planted")

    monkeypatch.setattr(functional, "linear", broken)
    kernel, bias = make_kernel(), torch.zeros(24)
    with SETTINGS[name]():
        before = read_settings()
        with pytest.raises(DeviceError, match="planted"):
            check(kernel, bias=bias)
        assert read_settings() == before


@needs_both_apis
@each_setting
def test_products_are_exact_while_the_check_runs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[Any] = set()
    linear = functional.linear

    def spy(*inputs: Any) -> Tensor:
        operations = [op for op in OPERATIONS if op[1] != "rnn"]
        seen.add((*(read_precision(*op) for op in operations), MATMUL.allow_fp16_accumulation))
        seen.add((MATMUL.allow_bf16_reduced_precision_reduction, torch.is_grad_enabled()))
        seen.add(torch.get_deterministic_debug_mode())  # cuBLAS would be refused
        seen.add(tuple(getattr(CUDNN, flag) for flag in CUDNN_FLAGS))
        return linear(*inputs)

    monkeypatch.setattr(functional, "linear", spy)
    kernel, bias = make_kernel(), torch.zeros(24)
    with SETTINGS[name]():
        check(kernel, bias=bias)
    exact = ("ieee", "ieee", "ieee", "ieee", False)
    assert seen == {exact, (False, False), 0, (True, False, False)}


@needs_both_apis
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_checks_in_two_threads_leave_the_settings_as_they_were(
    first_to_end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first is at work, and either of them ends first."""
    linear, seen = functional.linear, set()
    inside, may_end = threading.Barrier(2), [threading.Event(), threading.Event()]
    local = threading.local()

    def spy(*inputs: Any) -> Tensor:
        if not getattr(local, "waited", False):
            local.waited = True
            inside.wait(30)
            may_end[local.number].wait(30)
        seen.add(read_precision("cuda", "matmul"))
        return linear(*inputs)

    def work(number: int) -> Equivalence:
        local.number = number
        outcome = check(make_kernel())
        may_end[1 - number].set()
        return outcome

    monkeypatch.setattr(functional, "linear", spy)
    with SETTINGS["generic.all tf32"](), SETTINGS["cuda.matmul tf32"]():
        before = read_settings()
        may_end[first_to_end].set()
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(work, range(2)))
        assert read_settings() == before
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert seen == {"ieee"}


@needs_both_apis
def test_what_another_thread_sets_during_a_check_stays_set(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = functional.linear

    def spy(*inputs: Any) -> Tensor:
        write_precision("cuda", "all", "none")
        return linear(*inputs)

    monkeypatch.setattr(functional, "linear", spy)
    with precision("cuda", "all", "tf32"):
        check(make_kernel())
        assert read_precision("cuda", "all") == "none"


def test_no_warning_is_given_and_no_filter_changed_where_a_tensor_is_loaded() -> None:
    filters = warnings.filters[:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(4) as pool:
            loaded = list(
                pool.map(lambda _: load_tensor(bytes(8), dtype="F32", shape=(2,)), range(64))
            )
    assert all(torch.equal(each, torch.zeros(2)) for each in loaded)
    assert warnings.filters == filters
