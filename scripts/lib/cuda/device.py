"""Name the device that everything runs on, and what drives it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Device:
    """A CUDA device by torch's name, and the versions that compute on it; None for unknown ones.

    `torch_name` is `cpu` in a rehearsal. `capability` is that of the device, `compiled_for` the
    architectures that torch has code for.
    """

    torch_name: str
    name: str
    count: int = 0
    capability: str | None = None
    memory_bytes: int | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    compiled_for: tuple[str, ...] = ()

    @property
    def is_rehearsal(self) -> bool:
        """Whether something else stands in for a GPU."""
        return self.torch_name != "cuda"

    def describe(self) -> str:
        """Say what it is, in one sentence."""
        if self.is_rehearsal:
            return f"{self.name}, which stands in for a GPU"
        return (
            f"{self.name} (compute capability {self.capability}, "
            f"{(self.memory_bytes or 0) / 1e9:.0f} GB), driver {self.driver or 'unknown'}, "
            f"CUDA {self.cuda}, cuDNN {self.cudnn or 'none'}"
        )


class NoDeviceError(Exception):
    """There is nothing here to run on; the message says why."""


def describe_device(torch_name: str) -> Device:
    """Describe the first device of a type. Raises `NoDeviceError` where torch finds none."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise NoDeviceError(f"{sys.executable} cannot import torch: {error}") from None
    if torch_name != "cuda":
        return Device(torch_name, torch_name.upper())
    if not torch.cuda.is_available():
        raise NoDeviceError(f"torch {torch.__version__} finds no CUDA device")
    from conv2linear.equivalence.device import format_cudnn_version

    properties, cudnn = torch.cuda.get_device_properties(0), torch.backends.cudnn.version()
    return Device(
        torch_name,
        properties.name,
        count=torch.cuda.device_count(),
        capability=f"{properties.major}.{properties.minor}",
        memory_bytes=properties.total_memory,
        driver=_find_driver(),
        cuda=torch.version.cuda,
        cudnn=format_cudnn_version(cudnn) if cudnn else None,
        compiled_for=tuple(torch.cuda.get_arch_list()),
    )


def _find_driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return _DRIVER.read_text().splitlines()[0] if _DRIVER.exists() else None
