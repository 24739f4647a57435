"""The settings of torch that a caller may have: how to read them all, and how to make each one."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn
CUDNN_FLAGS = ("enabled", "benchmark", "deterministic")
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
