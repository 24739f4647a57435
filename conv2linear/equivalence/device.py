"""The device that the check runs on: find it, name it, wait for it, and set its precision."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from conv2linear.equivalence.outcome import Environment
from conv2linear.errors import DeviceError


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that this machine has.

    `auto` is CUDA where torch finds a device, else the CPU. Raises `DeviceError` for a name that
    is not known and a device that torch does not find.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not known", hint="use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"device {name!r} is not there: {count} CUDA devices found",
                hint="use --device cpu, or install a torch build that finds the GPU",
            )
    return device


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Keep TF32 and reduced-precision sums out of the comparison, and put all back afterwards."""
    matmul = torch.backends.cuda.matmul
    precision = torch.get_float32_matmul_precision()
    reduced = matmul.allow_bf16_reduced_precision_reduction
    reduced_fp16 = matmul.allow_fp16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        matmul.allow_bf16_reduced_precision_reduction = reduced
        matmul.allow_fp16_reduced_precision_reduction = reduced_fp16


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
