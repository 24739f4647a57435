"""Measure the error of a layer against float64, and hold it against its a-priori bound."""

from __future__ import annotations

import torch
from torch import Tensor

from conv2linear.equivalence.layers import Layers
from conv2linear.equivalence.outcome import LayerError
from conv2linear.equivalence.patches import CHUNK_PATCHES, sample_patches

_CHUNK_CHANNELS = 128
SMALLEST_NORMAL = 2.0**-126  # of float32 and bfloat16
_HUGE = torch.finfo(torch.float64).max  # stands for an infinite error: JSON has none


def measure_errors(
    layers: Layers, kernel: Tensor, bias: Tensor | None
) -> tuple[int, LayerError, LayerError]:
    """Measure the linear layer and Conv3d, in this order, on sampled patches.

    Returns how many patches were sampled, and the largest error of each layer.
    """
    bias64 = torch.zeros(len(kernel)).double() if bias is None else bias.double()
    max_abs, max_ratio, count = [0.0, 0.0], [0.0, 0.0], 0
    ordinary, extreme = sample_patches(kernel, bias)
    for patches in (*ordinary.split(CHUNK_PATCHES), extreme):
        count += len(patches)
        on_device = patches.to(layers.weight.device)
        for which, layer in enumerate((layers.linear, layers.conv3d)):
            error, ratio = largest_error(layer(on_device).cpu(), patches, kernel, bias64)
            max_ratio[which] = max(max_ratio[which], ratio)
            if patches is not extreme:
                max_abs[which] = max(max_abs[which], error)
    linear, conv3d = (LayerError(*pair) for pair in zip(max_abs, max_ratio, strict=True))
    return count, linear, conv3d


def largest_error(
    output: Tensor, patches: Tensor, kernel: Tensor, bias64: Tensor
) -> tuple[float, float]:
    """Compare an output `[N, O]` with float64; return the largest error, and error over bound.

    The bound of each element is `2·u·(|y|+|b|) + γ_n·(|x|·|W|ᵀ + |b|) + s + n·λ`: u is the unit
    roundoff of the output's dtype, s its smallest subnormal, γ_n = n·u32 / (1 - n·u32) with
    n = K + 1 and u32 = 2⁻²⁴ that of the float32 sums, λ = 2⁻¹²⁶ what a sum may lose in each step
    where the hardware flushes subnormals to zero, as VDPBF16PS does (Higham, Accuracy and Stability
    of Numerical Algorithms, §2.1 and §3.1). Output channels go through in blocks, which keeps the
    float64 copies small.
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
    return largest, largest_ratio
