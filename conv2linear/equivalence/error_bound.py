"""Measure the error of a layer against float64, and compare it with its a-priori bound.

The bound is that of a sum of products in floating point: N. J. Higham, *Accuracy and Stability of
Numerical Algorithms*, 2nd edition, §2.1 (subnormal numbers) and §3.1 (inner products).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from conv2linear.equivalence.outcome import LayerError
from conv2linear.equivalence.patches import Samples

SMALLEST_NORMAL = 2.0**-126  # of float32 and bfloat16
_CHUNK_CHANNELS = 128
_HUGE = torch.finfo(torch.float64).max  # stands for an infinite error: JSON has none


def measure_errors(
    layers: Sequence[Sequence[Tensor]],
    samples: Samples,
    *,
    kernel: Tensor,
    bias: Tensor | None,
    on_patches: Callable[[int], None],
) -> list[LayerError]:
    """Measure the outputs of layers on sampled patches: for each layer, one of each chunk.

    All tensors are on the CPU.
    """
    bias64 = torch.zeros(len(kernel), dtype=torch.float64) if bias is None else bias.double()
    chunks = []
    for i, chunk in enumerate(samples.chunks):
        outputs = [each[i] for each in layers]
        chunks.append(largest_errors(outputs, chunk, kernel=kernel, bias64=bias64))
        on_patches(len(chunk))
    return [
        LayerError(
            max_abs=max(error.max_abs for error in errors[:-1]),  # extreme patches scale it up
            max_over_bound=max(error.max_over_bound for error in errors),
        )
        for errors in zip(*chunks, strict=True)
    ]


def largest_error(output: Tensor, patches: Tensor, *, kernel: Tensor, bias64: Tensor) -> LayerError:
    """Compare one output, as `largest_errors` does."""
    return largest_errors([output], patches, kernel=kernel, bias64=bias64)[0]


def largest_errors(
    outputs: Sequence[Tensor], patches: Tensor, *, kernel: Tensor, bias64: Tensor
) -> list[LayerError]:
    """Compare outputs `[N, O]` of patches `[N, K]` with float64, element by element.

    The bound of an element is `2·u·(|y|+|b|) + γ_n·(|x|·|W|ᵀ + |b|) + s + λ·(n + Σ|x| + Σ|w|)`: u
    is the unit roundoff of the output's dtype, s its smallest subnormal, γ_n = n·u32 / (1 - n·u32)
    with n = K + 1 and u32 = 2⁻²⁴ that of the float32 sums. λ = 2⁻¹²⁶ is what a number may lose
    where the hardware flushes subnormals to zero, as VDPBF16PS does: each of the n sums, each value
    of the patch, which its weight multiplies, and each weight. Output channels go through in
    blocks, which keeps the float64 copies small. All tensors are on the CPU.
    """
    patches64 = patches.double()
    magnitudes = patches64.abs()
    patch_sums = magnitudes.sum(dim=1, keepdim=True)
    n, u32 = patches.shape[1] + 1, 2.0**-24
    gamma = n * u32 / (1 - n * u32)
    blocks = []
    for start in range(0, len(kernel), _CHUNK_CHANNELS):
        block = slice(start, start + _CHUNK_CHANNELS)
        weight64, b = kernel[block].flatten(1).double(), bias64[block]
        exact = patches64 @ weight64.T + b
        weight64.abs_()
        bound = gamma * (magnitudes @ weight64.T + b.abs())
        bound += SMALLEST_NORMAL * (n + patch_sums + weight64.sum(dim=1))
        blocks.append([_compare(output[:, block], exact, b, bound) for output in outputs])
    return [
        LayerError(max(e.max_abs for e in errors), max(e.max_over_bound for e in errors))
        for errors in zip(*blocks, strict=True)
    ]


def _compare(output: Tensor, exact: Tensor, bias64: Tensor, sums_bound: Tensor) -> LayerError:
    """Compare a block of an output; `sums_bound` is the part of the bound that no dtype changes."""
    limits = torch.finfo(output.dtype)
    u, smallest = limits.eps / 2, limits.tiny * limits.eps
    bound = 2 * u * (exact.abs() + bias64.abs()) + sums_bound + smallest
    error = (output.double() - exact).abs().nan_to_num(nan=_HUGE, posinf=_HUGE)
    ratio = (error / bound).nan_to_num(nan=_HUGE, posinf=_HUGE)  # where nothing is finite
    return LayerError(error.max().item(), ratio.max().item())
