"""Compare a layer with the kernel on every one-hot patch and at zero.

The one-hot patches are a basis of the space of patches, and an affine map is determined by its
values on a basis and at zero: layers that agree there are the same map. On a one-hot patch a layer
without its bias multiplies one column of its weight by 1 and adds zeros, so that even floating
point is exact, and the comparison can be bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conv2linear.equivalence.error_bound import SMALLEST_NORMAL
from conv2linear.equivalence.layers import Layers
from conv2linear.equivalence.patches import CHUNK_PATCHES

# The numbers of each dtype as integers: equal numbers are equal bits, but for the sign of zero.
_BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}
# On a CPU, all 2**31 that the one-hot patches of GLM-4.5V take would be half of the check's time.
_MAX_CONV3D_PRODUCTS = 2**29
_CONV3D_BUDGET_S = 10.0  # cuDNN may take seconds for each call


@dataclass(frozen=True, eq=False)
class _OneHotPatches:
    """One-hot patches `[N, K]`, their `numbers` k, and the kernel's columns `[N, O]` for them."""

    numbers: Tensor
    patches: Tensor
    columns: Tensor


def find_difference(
    layers: Layers, stored: Layers, on_patches: Callable[[int], None]
) -> str | None:
    """Put every one-hot patch, and zero, through the linear layer; say what is wrong, if anything.

    The one-hot patch k = ((c·T + t)·P + i)·P + j, the row-major order in which processors flatten a
    patch, must give column `kernel[:, c, t, i, j]`, picked by index and not by the reshape that is
    under test; the zero patch must give the kernel's bias. `stored` are the same layers on the CPU.
    """
    kernel, weight, bias = stored.kernel, stored.weight, stored.kernel_bias
    for chunk in _one_hot_patches(kernel):
        output = layers.linear(chunk.patches.to(layers.weight.device), with_bias=False).cpu()
        differs = _differs(output, chunk.columns)
        differs |= _differs_in_bits(weight[:, chunk.numbers].T, chunk.columns)
        if differs.any():
            row, channel = differs.nonzero()[0].tolist()
            number = int(chunk.numbers[row])
            place = ", ".join(map(str, _kernel_indices(number, kernel.shape)))
            return (
                f"column {number} of the linear weight is not kernel[:, {place}] "
                f"(first at output channel {channel})"
            )
        on_patches(len(chunk.numbers))
    at_zero = layers.linear(layers.weight.new_zeros(1, weight.shape[1])).cpu()[0]
    expected = torch.zeros_like(at_zero) if bias is None else bias
    if _differs(at_zero, expected).any():
        return "the zero patch does not give the bias"
    return None


def conv3d_is_exact(layers: Layers, kernel: Tensor, on_patches: Callable[[int], None]) -> bool:
    """Tell whether Conv3d gives its own columns for one-hot patches; `kernel` is on the CPU.

    A large kernel gets every second, third or so block of them, and a Conv3d that is slow as many
    as it computes in some seconds: what is looked for is a fault of this machine, which a part of
    them shows as well.
    """
    start = time.perf_counter()
    columns = math.prod(kernel.shape[1:])
    work = kernel.numel() * columns
    step = math.ceil(work / _MAX_CONV3D_PRODUCTS)
    left, is_exact = columns, True
    for chunk in _one_hot_patches(kernel, step=step):
        output = layers.conv3d(chunk.patches.to(layers.kernel.device), with_bias=False).cpu()
        is_exact = not _differs(output, chunk.columns).any()
        done = min(CHUNK_PATCHES * step, left)  # with those left out: they count too
        left -= done
        on_patches(done)
        if not is_exact or time.perf_counter() - start > _CONV3D_BUDGET_S:
            break
    on_patches(left)
    return is_exact


def _one_hot_patches(kernel: Tensor, *, step: int = 1) -> Iterator[_OneHotPatches]:
    """Make all one-hot patches in chunks, or every `step`-th chunk of them."""
    count = math.prod(kernel.shape[1:])
    for start in range(0, count, CHUNK_PATCHES * step):
        numbers = torch.arange(start, min(start + CHUNK_PATCHES, count))
        patches = torch.zeros(len(numbers), count, dtype=kernel.dtype)
        patches.scatter_(1, numbers[:, None], 1)
        c, t, i, j = _kernel_indices(numbers, kernel.shape)
        yield _OneHotPatches(numbers, patches, kernel[:, c, t, i, j].T)


def _kernel_indices(numbers: Any, shape: torch.Size) -> tuple[Any, Any, Any, Any]:
    """Split patch numbers k into c, t, i, j; torch.unravel_index would import 30 MB for it."""
    _, _, frames, height, width = shape
    row, j = numbers // width, numbers % width
    frame, i = row // height, row % height
    return frame // frames, frame % frames, i, j


def _differs(output: Tensor, expected: Tensor) -> Tensor:
    """Mark the elements that are not equal bit for bit, except for what a sum does not keep.

    That is the sign of zero, and numbers that are subnormal in float32, which some units flush to
    zero (VDPBF16PS always does): of those the stored bits are compared.
    """
    are_tiny = (output.abs() < SMALLEST_NORMAL) & (expected.abs() < SMALLEST_NORMAL)
    return (output != expected) & ~are_tiny


def _differs_in_bits(stored: Tensor, expected: Tensor) -> Tensor:
    """Mark the numbers that are not equal as they are stored, but for the sign of zero."""
    bits = _BITS[stored.dtype]
    a, b = stored.contiguous().view(bits), expected.contiguous().view(bits)
    return (a != b) & (((a | b) & torch.iinfo(bits).max) != 0)
