"""Measure the error of a layer against float64, and compare it with its a-priori bound.

The bound is that of a sum of products in floating point: N. J. Higham, *Accuracy and Stability of
Numerical Algorithms*, 2nd edition, §2.1 (subnormal numbers) and §3.1 (inner products).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conv2linear.equivalence.layers import Layers
from conv2linear.equivalence.outcome import LayerError
from conv2linear.equivalence.patches import CHUNK_PATCHES, sample_patches

SMALLEST_NORMAL = 2.0**-126  # of float32 and bfloat16
_CHUNK_CHANNELS = 128
_HUGE = torch.finfo(torch.float64).max  # stands for an infinite error: JSON has none


@dataclass(frozen=True)
class SampledErrors:
    """The largest errors of both layers on `sampled_patches` patches."""

    sampled_patches: int
    linear: LayerError
    conv3d: LayerError


def measure_errors(layers: Layers, kernel: Tensor, *, bias: Tensor | None) -> SampledErrors:
    """Measure both layers on sampled patches; `kernel` and `bias` are on the CPU."""
    bias64 = torch.zeros(len(kernel)).double() if bias is None else bias.double()
    ordinary, extreme = sample_patches(kernel, bias=bias)
    chunks = [*ordinary.split(CHUNK_PATCHES), extreme]

    def measure(layer: Callable[[Tensor], Tensor]) -> LayerError:
        errors = [
            largest_error(
                layer(chunk.to(layers.weight.device)).cpu(), chunk, kernel=kernel, bias64=bias64
            )
            for chunk in chunks
        ]
        return LayerError(
            max_abs=max(error.max_abs for error in errors[:-1]),  # extreme patches scale it up
            max_over_bound=max(error.max_over_bound for error in errors),
        )

    count = len(ordinary) + len(extreme)
    return SampledErrors(count, measure(layers.linear), measure(layers.conv3d))


def largest_error(output: Tensor, patches: Tensor, *, kernel: Tensor, bias64: Tensor) -> LayerError:
    """Compare an output `[N, O]` of patches `[N, K]` with float64, element by element.

    The bound of each element is `2·u·(|y|+|b|) + γ_n·(|x|·|W|ᵀ + |b|) + s + n·λ`: u is the unit
    roundoff of the output's dtype, s its smallest subnormal, γ_n = n·u32 / (1 - n·u32) with
    n = K + 1 and u32 = 2⁻²⁴ that of the float32 sums, λ = 2⁻¹²⁶ what a sum may lose in each step
    where the hardware flushes subnormals to zero, as VDPBF16PS does. Output channels go through in
    blocks, which keeps the float64 copies small. All tensors are on the CPU.
    """
    patches64 = patches.double()
    limits = torch.finfo(output.dtype)
    u, smallest = limits.eps / 2, limits.tiny * limits.eps
    n, u32 = patches.shape[1] + 1, 2.0**-24
    gamma = n * u32 / (1 - n * u32)
    largest = largest_ratio = 0.0
    for start in range(0, len(kernel), _CHUNK_CHANNELS):
        block = slice(start, start + _CHUNK_CHANNELS)
        weight64, b = kernel[block].flatten(1).double(), bias64[block]
        exact = patches64 @ weight64.T + b
        magnitude = patches64.abs() @ weight64.abs().T + b.abs()
        bound = 2 * u * (exact.abs() + b.abs()) + gamma * magnitude + smallest + n * SMALLEST_NORMAL
        error = (output[:, block].double() - exact).abs().nan_to_num(nan=_HUGE, posinf=_HUGE)
        largest = max(largest, error.max().item())
        largest_ratio = max(largest_ratio, (error / bound).clamp(max=_HUGE).max().item())
    return LayerError(largest, largest_ratio)
