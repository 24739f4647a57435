"""The caller's torch settings neither change the outcome of the check, nor come back changed."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.load import load_tensor
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.errors import DeviceError
from tests.equivalence.kernels import CPU, check, each_device, each_dtype, make_kernel

MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn
CUDNN_FLAGS = ("enabled", "benchmark", "deterministic")
needs_both_apis = pytest.mark.skipif(
    not hasattr(torch._C, "_get_fp32_precision_getter"), reason="torch has one API for precision"
)
SUMS = ("", "_split_k")  # the second is not in every version
BACKENDS = ("generic", "cuda", "mkldnn")
OPERATIONS = [(name, what) for name in BACKENDS[1:] for what in ("matmul", "conv", "rnn")]


def read_precision(backend: str, what: str) -> str:
    return str(torch._C._get_fp32_precision_getter(backend, what))


def write_precision(backend: str, what: str, value: str) -> None:
    torch._C._set_fp32_precision_setter(backend, what, value)


def read_or_complaint(read: Callable[[], Any]) -> Any:
    """Read a setting; torch complains of those of its old API once both have been used."""
    try:
        return read()
    except RuntimeError as error:
        return str(error)


def read_attribute(module: Any, name: str) -> Any:
    """Read an attribute that some versions of torch lack, and say so in another way than others."""
    try:
        return getattr(module, name)
    except (AttributeError, AssertionError):
        return None


def read_settings() -> list[Any]:
    """Read every setting that a caller may have, and what each operation inherits."""
    names = ("bf16_reduced_precision_reduction", "fp16_reduced_precision_reduction")
    found: list[Any] = [
        read_or_complaint(torch.get_float32_matmul_precision),
        read_or_complaint(lambda: CUDNN.allow_tf32),
        read_or_complaint(lambda: MATMUL.allow_tf32),
        *(read_attribute(MATMUL, f"allow_{name}{part}") for name in names for part in SUMS),
        MATMUL.allow_fp16_accumulation,
        *(getattr(CUDNN, name) for name in CUDNN_FLAGS),
        torch.get_deterministic_debug_mode(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        *((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")),
        warnings.filters[:],
    ]
    generic = read_precision("generic", "all")
    for above in (generic, "none", "ieee", "tf32"):
        write_precision("generic", "all", above)
        found.append([read_precision(name, "all") for name in BACKENDS])
        found.append([read_precision(*operation) for operation in OPERATIONS])
    write_precision("generic", "all", generic)
    return found


def as_found(outcome: Equivalence) -> Equivalence:
    return dataclasses.replace(outcome, linear_s=None, conv3d_s=None)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def setting(read: Callable[[], Any], write: Callable[[Any], object], value: Any) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


@contextlib.contextmanager
def precision(backend: str, what: str, value: str) -> Iterator[None]:
    with setting(
        lambda: read_precision(backend, what),
        lambda to: write_precision(backend, what, to),
        value,
    ):
        yield


@contextlib.contextmanager
def flushing() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def reduction(value: tuple[bool, bool]) -> Any:
    name = "allow_bf16_reduced_precision_reduction"
    if read_attribute(MATMUL, f"{name}_split_k") is None:
        return attribute(MATMUL, name, value[0])
    return setting(
        lambda: (getattr(MATMUL, name), getattr(MATMUL, f"{name}_split_k")),
        lambda to: setattr(MATMUL, name, to),
        value,
    )


def attribute(module: Any, name: str, value: Any) -> Any:
    return setting(lambda: getattr(module, name), lambda to: setattr(module, name, to), value)


SETTINGS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "TF32 for products": lambda: attribute(MATMUL, "allow_tf32", True),
    "no TF32 in cuDNN": lambda: attribute(CUDNN, "allow_tf32", False),
    "cuDNN off": lambda: attribute(CUDNN, "enabled", False),
    "cuDNN's benchmark": lambda: attribute(CUDNN, "benchmark", True),
    "deterministic cuDNN": lambda: attribute(CUDNN, "deterministic", True),
    "sums in float16": lambda: attribute(MATMUL, "allow_fp16_accumulation", True),
    "autocast on CUDA": lambda: torch.autocast("cuda", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "float64 by default": lambda: default_dtype(torch.float64),
    "float16 by default": lambda: default_dtype(torch.float16),
    "device meta": lambda: torch.device("meta"),
    "default device": lambda: setting(
        torch.get_default_device, torch.set_default_device, torch.device("meta")
    ),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": lambda: setting(
        torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 2
    ),
    "one thread": lambda: setting(torch.get_num_threads, torch.set_num_threads, 1),
    "subnormals flushed": flushing,
    "medium precision": lambda: setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "reduced sums": lambda: reduction((True, True)),
    "no split-k": lambda: reduction((False, False)),
    **{
        f"{backend}.{what} {value}": partial(precision, backend, what, value)
        for backend, what, value in (
            ("generic", "all", "tf32"),  # what TrainingArguments(tf32=True) sets
            ("generic", "all", "bf16"),
            ("cuda", "all", "ieee"),
            ("cuda", "all", "tf32"),
            ("mkldnn", "all", "bf16"),
            ("cuda", "matmul", "tf32"),
            ("cuda", "conv", "tf32"),
            ("mkldnn", "matmul", "bf16"),
            ("mkldnn", "conv", "bf16"),
        )
    },
}
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
    expected = as_found(check(kernel, bias=bias, device=device))
    assert expected.failure is None
    assert expected.warning is None or device != CPU  # a GPU's Conv3d may be wrong
    with SETTINGS[name]():
        before = read_settings()
        outcome = as_found(check(kernel, bias=bias, device=device))
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
