"""What the equivalence check found; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.text import TextEnum


class Step(TextEnum):
    """The steps of the check, in their order; `verify` reports each under this name."""

    FINITE = "finite"
    EQUIVALENCE = "equivalence"
    NUMERICS = "numerics"


SPEED_PATCHES = 256


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
    """What the check ran on."""

    device: str
    device_name: str
    torch: str
    cudnn: str | None


@dataclass(frozen=True)
class Equivalence:
    """Outcome of the check for one patch embedding: equal if `failure` is None.

    `failed_step` says which step that was: finite, equivalence or numerics. `warning` is about this
    machine's Conv3d, not about the checkpoint. The times are medians in seconds for
    `speed_patches` patches.
    """

    failure: str | None
    failed_step: Step | None
    warning: str | None
    dtype: str
    basis_patches: int
    sampled_patches: int
    linear: LayerError | None
    conv3d: LayerError | None
    environment: Environment
    speed_patches: int = SPEED_PATCHES
    linear_s: float | None = None
    conv3d_s: float | None = None
