"""The device that the check runs on: find it, name it, wait for it, and say why it cannot."""

from __future__ import annotations

import contextlib
import platform
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch.nn import functional

from conv2linear.equivalence.outcome import Environment
from conv2linear.equivalence.settings import own_settings
from conv2linear.errors import DeviceError

# What torch's allocator on the CPU, CUDA and cuBLAS say.
_OUT_OF_MEMORY = ("not enough memory", "allocate memory", "out of memory", "ALLOC_FAILED")
_MAX_MESSAGE = 200  # characters of what torch says
_NEEDED_BYTES = 2**30  # of a GPU for the check, cuBLAS's and cuDNN's workspaces included
_AUTO = "auto"
_CPU = torch.device("cpu")

Warn = Callable[[str], None]
Computed = TypeVar("Computed")


@dataclass(frozen=True)
class ChosenDevice:
    """The device to compute on, and the one that stands in where it cannot, None for none."""

    device: torch.device
    fallback: torch.device | None = None


def choose_device(name: str, *, warn: Warn) -> ChosenDevice:
    """Choose the device that `auto`, `cpu`, `cuda` or `cuda:N` names.

    `auto` is CUDA where torch finds a device that can compute, with the CPU to fall back to, else
    the CPU; `warn` is told where a device is passed over. What else is named has to do by itself.

    Raises `DeviceError` for a name that is not known and a device that torch does not find.
    """
    if name != _AUTO:
        return ChosenDevice(resolve_device(name))
    if not torch.cuda.is_available():
        return ChosenDevice(_CPU)
    device = torch.device("cuda")
    try:
        _require_able(device)
    except DeviceError as error:
        warn(_pass_over(error))
        return ChosenDevice(_CPU)
    return ChosenDevice(device, fallback=_CPU)


def resolve_device(name: str) -> torch.device:
    """Turn `cpu`, `cuda` or `cuda:N` into a device that this machine has.

    Raises `DeviceError` for a name that is not known and a device that torch does not find.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not known", hint="use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        is_itself = str(device) == name  # torch takes cuda:256 for cuda:0
        if not is_itself or (device.index or 0) >= count:
            raise DeviceError(
                f"device {name!r} is not there: {count} CUDA devices found",
                hint="use --device cpu, or install a torch build that finds the GPU",
            )
    return device


def compute_on(
    chosen: ChosenDevice, compute: Callable[[torch.device], Computed], *, warn: Warn
) -> Computed:
    """Compute on the chosen device, and where it cannot, on its fallback, with a warning.

    Raises `DeviceError` where no device can compute it.
    """
    if chosen.fallback is None:
        return compute(chosen.device)
    try:
        return compute(chosen.device)
    except DeviceError as error:
        warn(_pass_over(error))
    return compute(chosen.fallback)


def _pass_over(error: DeviceError) -> str:
    return f"{error}: this runs on the CPU instead"


@contextlib.contextmanager
def device_errors(device: torch.device) -> Iterator[None]:
    """Turn what torch raises where a device cannot compute into `DeviceError`.

    Afterwards a GPU has the memory back that torch would keep for what it computes next: another
    process may need it.
    """
    on_cuda = device.type == "cuda"
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        traceback.clear_frames(error.__traceback__)  # they hold tensors on the device
        if is_out_of_memory(error):
            message, hint = f"not enough memory on {device}", "free some memory"
        else:
            message = f"{device} cannot compute the linear layer: {first_line(error)}"
            hint = "free some memory, or try another version of torch"
        raise DeviceError(message, hint="use --device cpu" if on_cuda else hint) from error
    finally:
        if on_cuda:
            with contextlib.suppress(RuntimeError):  # an error of CUDA may make all calls fail
                torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of torch says that memory is short, on a GPU or on the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, shortened, or its type where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:_MAX_MESSAGE] if lines else type(error).__name__


def _require_able(device: torch.device) -> None:
    """Raise `DeviceError` where a CUDA device cannot compute, or has no memory to spare."""
    try:
        with own_settings(), device_errors(device):
            ones = torch.ones(8, 8, device=device, dtype=torch.float32)
            functional.linear(ones, ones).cpu()
            free_bytes, _ = torch.cuda.mem_get_info()
    except AssertionError as error:  # this torch has no code for CUDA
        raise DeviceError(f"{device} cannot compute: {first_line(error)}") from error
    if free_bytes < _NEEDED_BYTES:
        free, needed = (f"{size / 1e9:.2g} GB" for size in (free_bytes, _NEEDED_BYTES))
        raise DeviceError(f"{device} has {free} of free memory, the check may take {needed}")


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_environment(device: torch.device) -> Environment:
    """Name a device, and the versions of torch and, on CUDA, of cuDNN that compute on it."""
    on_cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_cuda else _cpu_name()
    number = torch.backends.cudnn.version() if on_cuda else None
    cudnn = format_cudnn_version(number) if number else None
    return Environment(str(device), name, torch.__version__, cudnn)


def _cpu_name() -> str:
    """Name the CPU's model where the system says it, and its architecture elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def format_cudnn_version(number: int) -> str:
    """Format the number that cuDNN reports: 91500 is 9.15.0; before version 9, 8902 is 8.9.2."""
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"
