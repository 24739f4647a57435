"""Compute apart from the torch settings of the caller, which stay as they are.

Some settings belong to a thread: autocast, grad mode, the default device. Context managers of torch
put them aside. The others belong to the whole process: the precision of float32 products, sums in
reduced precision, deterministic algorithms, how cuDNN chooses a kernel. They are changed once,
however many threads need them changed at a time, and put back when the last one is done.

The default dtype belongs to the process too. It is not changed: the check names every dtype.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

_EXACT = "ieee"  # float32 products in float32, neither in TF32 nor in bfloat16
_INHERIT = "none"  # whatever is set above
# torch 2.9 and newer have a precision for each operation of each backend, one for each backend,
# and a generic one above them.
_BACKENDS = ("cuda", "mkldnn")
_GENERIC = ("generic", "all")


@dataclass(frozen=True)
class _Setting:
    """A setting of the process, and the value that it has while something is computed."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    wanted: Any

    def put_back(self, value: Any) -> None:
        """Restore a value, unless somebody else has changed the setting since."""
        if self.read() == self.wanted:
            self.write(value)


class _ProcessSettings:
    """The settings of the process, changed as long as at least one thread needs them changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._changes = contextlib.ExitStack()

    @contextlib.contextmanager
    def changed(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._changes = _change(_list_settings())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._changes.close()


_PROCESS = _ProcessSettings()


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Compute in full precision, whatever the caller has set, and leave that as it was.

    Factories without a device make tensors on the CPU. Gradients are off.
    """
    with (
        _PROCESS.changed(),
        torch.inference_mode(),
        torch.device("cpu"),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


def _change(settings: list[_Setting]) -> contextlib.ExitStack:
    """Give each setting the value that it should have; closing the result puts all back."""
    with contextlib.ExitStack() as stack:
        for setting in settings:
            before = setting.read()
            if before != setting.wanted:
                stack.callback(setting.put_back, before)
                setting.write(setting.wanted)
        return stack.pop_all()


def _list_settings() -> list[_Setting]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    settings = [
        # Which kernel cuDNN takes must not depend on what its benchmark measures this time.
        _attribute(cudnn, "enabled", True),
        _attribute(cudnn, "benchmark", False),
        _attribute(cudnn, "deterministic", False),
        # Deterministic algorithms would refuse cuBLAS.
        _Setting(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
        _reduction("allow_bf16_reduced_precision_reduction"),
        _reduction("allow_fp16_reduced_precision_reduction"),
        *_float32_precision(),
    ]
    with contextlib.suppress(AttributeError, AssertionError):  # older than torch 2.7
        _ = matmul.allow_fp16_accumulation
        settings.append(_attribute(matmul, "allow_fp16_accumulation", False))
    return settings


def _attribute(module: Any, name: str, wanted: Any) -> _Setting:
    return _Setting(lambda: getattr(module, name), lambda to: setattr(module, name, to), wanted)


def _reduction(name: str) -> _Setting:
    """Return the setting of a reduced-precision sum, with what newer versions say of split-k."""
    matmul = torch.backends.cuda.matmul
    try:
        getattr(matmul, f"{name}_split_k")
    except (AttributeError, AssertionError):
        return _attribute(matmul, name, False)
    return _Setting(
        lambda: (getattr(matmul, name), getattr(matmul, f"{name}_split_k")),
        lambda to: setattr(matmul, name, to),
        (False, True),
    )


def _float32_precision() -> list[_Setting]:
    """Return the settings of float32 products.

    Versions that have both APIs for them raise where the old one is read after the new one was
    used: there the old one is not touched. An operation that is set to nothing takes the precision
    of its backend, and some have a default that cannot be set again: so the backends come first,
    and an operation is changed only where it still says something else.
    """
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        return [
            *(_precision(name, "all", read=_read_own_precision) for name in _BACKENDS),
            *(_precision(name, what) for name in _BACKENDS for what in ("matmul", "conv")),
        ]
    return [
        _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        _attribute(torch.backends.cudnn, "allow_tf32", False),
    ]


def _read_precision(backend: str, what: str) -> str:
    return str(torch._C._get_fp32_precision_getter(backend, what))


def _write_precision(backend: str, what: str, value: str) -> None:
    torch._C._set_fp32_precision_setter(backend, what, value)


def _read_own_precision(backend: str, what: str) -> str:
    """Read what a backend itself is set to: torch shows it only while nothing is set above it."""
    above = _read_precision(*_GENERIC)
    _write_precision(*_GENERIC, _INHERIT)
    try:
        return _read_precision(backend, what)
    finally:
        _write_precision(*_GENERIC, above)


def _precision(
    backend: str, what: str, *, read: Callable[[str, str], str] = _read_precision
) -> _Setting:
    return _Setting(
        lambda: read(backend, what), lambda to: _write_precision(backend, what, to), _EXACT
    )
