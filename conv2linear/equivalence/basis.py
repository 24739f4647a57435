"""Compare the layers on every one-hot patch and at zero: equal there, they are the same map."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.error_bound import SMALLEST_NORMAL
from conv2linear.equivalence.layers import Layers
from conv2linear.equivalence.patches import CHUNK_PATCHES


def _kernel_indices(numbers: Tensor, shape: torch.Size) -> tuple[Tensor, ...]:
    """Split patch numbers k into c, t, i, j; torch.unravel_index would import 30 MB for it."""
    _, _, frames, height, width = shape
    row, j = numbers // width, numbers % width
    frame, i = row // height, row % height
    return frame // frames, frame % frames, i, j


def compare_on_basis(layers: Layers, kernel: Tensor) -> tuple[str | None, bool]:
    """Put every one-hot patch, and zero, through both layers.

    The one-hot patch k = ((c·T + t)·P + i)·P + j must give column `kernel[:, c, t, i, j]`, picked
    by index. Returns what is wrong with the linear layer, if anything, and whether Conv3d is exact
    here.
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
            return (
                f"column {start + row} of the linear weight is not kernel[:, {place}] "
                f"(first at output channel {channel})",
                conv3d_is_exact,
            )
        conv3d_output = layers.conv3d(patches, with_bias=False).cpu()
        conv3d_is_exact = conv3d_is_exact and not _differs(conv3d_output, expected).any()
    at_zero = layers.linear(layers.weight.new_zeros(1, columns)).cpu()[0]
    expected = torch.zeros(()) if layers.bias is None else layers.bias.cpu()
    if _differs(at_zero, expected.to(at_zero)).any():
        return "the zero patch does not give the bias", conv3d_is_exact
    return None, conv3d_is_exact


def _differs(output: Tensor, expected: Tensor) -> Tensor:
    """Compare bit for bit, but for what no sum of products keeps, and mark what differs.

    That is the sign of zero, and numbers that are subnormal in float32, which some units flush to
    zero (VDPBF16PS always does). The bytes of the weights are proven by their hash all the same.
    """
    are_tiny = (output.abs() < SMALLEST_NORMAL) & (expected.abs() < SMALLEST_NORMAL)
    return (output != expected) & ~are_tiny
