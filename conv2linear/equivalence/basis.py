"""Compare both layers with the kernel on every one-hot patch and at zero.

The one-hot patches are a basis of the space of patches, and an affine map is determined by its
values on a basis and at zero: layers that agree there are the same map. On a one-hot patch a layer
without its bias multiplies one column of its weight by 1 and adds zeros, so that even floating
point is exact, and the comparison can be bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.error_bound import SMALLEST_NORMAL
from conv2linear.equivalence.layers import Layers
from conv2linear.equivalence.patches import CHUNK_PATCHES


@dataclass(frozen=True)
class BasisComparison:
    """What is wrong with the linear layer, if anything, and whether Conv3d is exact here.

    After a failure Conv3d has seen only the patches before it.
    """

    failure: str | None
    conv3d_is_exact: bool


def compare_on_basis(layers: Layers, kernel: Tensor) -> BasisComparison:
    """Put every one-hot patch, and zero, through both layers.

    The one-hot patch k = ((c·T + t)·P + i)·P + j, the row-major order in which processors flatten a
    patch, must give column `kernel[:, c, t, i, j]`, picked by index and not by the reshape that is
    under test; the zero patch must give the bias. `kernel` is on the CPU.
    """
    columns = math.prod(kernel.shape[1:])
    conv3d_is_exact = True
    for start in range(0, columns, CHUNK_PATCHES):
        numbers = torch.arange(start, min(start + CHUNK_PATCHES, columns))
        c, t, i, j = _kernel_indices(numbers, kernel.shape)
        expected = kernel[:, c, t, i, j].T
        patches = functional.one_hot(numbers, columns).to(layers.weight)
        output = layers.linear(patches, with_bias=False).cpu()
        if (differs := _differs(output, expected)).any():
            row, channel = differs.nonzero()[0].tolist()
            place = ", ".join(str(index[row].item()) for index in (c, t, i, j))
            failure = (
                f"column {start + row} of the linear weight is not kernel[:, {place}] "
                f"(first at output channel {channel})"
            )
            return BasisComparison(failure, conv3d_is_exact)
        conv3d_output = layers.conv3d(patches, with_bias=False).cpu()
        conv3d_is_exact = conv3d_is_exact and not _differs(conv3d_output, expected).any()
    at_zero = layers.linear(layers.weight.new_zeros(1, columns)).cpu()[0]
    expected = torch.zeros(()) if layers.bias is None else layers.bias.cpu()
    if _differs(at_zero, expected.to(at_zero)).any():
        return BasisComparison("the zero patch does not give the bias", conv3d_is_exact)
    return BasisComparison(None, conv3d_is_exact)


def _kernel_indices(numbers: Tensor, shape: torch.Size) -> tuple[Tensor, ...]:
    """Split patch numbers k into c, t, i, j; torch.unravel_index would import 30 MB for it."""
    _, _, frames, height, width = shape
    row, j = numbers // width, numbers % width
    frame, i = row // height, row % height
    return frame // frames, frame % frames, i, j


def _differs(output: Tensor, expected: Tensor) -> Tensor:
    """Mark the elements that are not equal bit for bit, except for what a sum does not keep.

    That is the sign of zero, and numbers that are subnormal in float32, which some units flush to
    zero (VDPBF16PS always does). The bytes of the weights are compared by their hash all the same.
    """
    are_tiny = (output.abs() < SMALLEST_NORMAL) & (expected.abs() < SMALLEST_NORMAL)
    return (output != expected) & ~are_tiny
