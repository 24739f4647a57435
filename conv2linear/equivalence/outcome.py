"""What the equivalence check found, and where it ran; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.result import Result
from conv2linear.text import TextEnum


class Step(TextEnum):
    """The steps of the check, in their order; `verify` reports each under this name."""

    FINITE = "finite"
    EQUIVALENCE = "equivalence"
    NUMERICS = "numerics"


@dataclass(frozen=True)
class LayerError:
    """Largest error of a layer against float64.

    `max_abs` is that of ordinary patches, `max_over_bound` the largest fraction of its bound over
    all patches, extreme ones included.
    """

    max_abs: float
    max_over_bound: float


@dataclass(frozen=True)
class Environment:
    """Where something was computed: `device` as torch names it, its model, and the libraries."""

    device: str
    device_name: str
    torch: str
    cudnn: str | None

    @property
    def versions(self) -> str:
        """The libraries that computed: `torch 2.13.0, cuDNN 9.15.0`."""
        return f"torch {self.torch}" + (f", cuDNN {self.cudnn}" if self.cudnn else "")

    def describe(self) -> str:
        """Say the device and the libraries: `NVIDIA H200 (cuda:0), torch 2.13.0, cuDNN 9.15.0`."""
        return f"{self.device_name} ({self.device}), {self.versions}"


@dataclass(frozen=True, kw_only=True)
class Equivalence(Result):
    """Outcome of the check for one patch embedding: equal if `failure` is None.

    `failed_step` says which step found the failure; what the steps behind it would have measured
    is absent. `warning` is about this machine's Conv3d, not about the checkpoint.
    """

    failure: str | None = None
    failed_step: Step | None = None
    warning: str | None = None
    dtype: str
    basis_patches: int = 0
    sampled_patches: int = 0
    linear: LayerError | None = None
    conv3d: LayerError | None = None
    environment: Environment
