"""A linear weight that is not the kernel is found, and the column at fault is named."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.basis import conv3d_is_exact
from conv2linear.equivalence.layers import Layers
from tests.equivalence.kernels import (
    check,
    column_of,
    each_device,
    each_dtype,
    make_kernel,
)

BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}
AXES = dict(zip("ctij", range(1, 5), strict=True))


@each_device
@each_dtype
@pytest.mark.parametrize("axes", [*itertools.combinations("ctij", 2)], ids="".join)
def test_transposed_axes_are_found_and_named(
    axes: tuple[str, str], dtype: torch.dtype, device: torch.device
) -> None:
    kernel = make_kernel(dtype)
    weight = kernel.transpose(AXES[axes[0]], AXES[axes[1]]).flatten(1)
    first = int((weight != kernel.flatten(1)).any(dim=0).nonzero()[0])
    failure = check(kernel, weight, device=device).failure
    assert failure is not None
    assert failure.startswith(f"column {first} of the linear weight is not {column_of(first)}")


@pytest.mark.parametrize("order", [(0, 2, 3, 4, 1), (0, 3, 4, 1, 2), (0, 2, 1, 4, 3)], ids=str)
def test_another_order_of_axes_is_found(order: tuple[int, ...]) -> None:
    kernel = make_kernel()
    assert check(kernel, kernel.permute(order).flatten(1)).failure is not None


@each_device
@each_dtype
def test_one_flipped_bit_is_found_and_named(dtype: torch.dtype, device: torch.device) -> None:
    kernel = make_kernel(dtype)
    columns = kernel[0].numel()
    for bit in range(torch.iinfo(BITS[dtype]).bits):
        row, column = (7 * bit) % len(kernel), (29 * bit + 5) % columns
        weight = kernel.flatten(1).clone()
        mask = 1 << bit if bit < torch.iinfo(BITS[dtype]).bits - 1 else torch.iinfo(BITS[dtype]).min
        weight.view(BITS[dtype])[row, column] ^= mask
        failure = check(kernel, weight, device=device).failure
        assert failure is not None
        if weight.isfinite().all():
            assert failure.startswith(f"column {column} of the linear weight")
            assert failure.endswith(f"(first at output channel {row})")
            assert column_of(column) in failure
        else:
            assert f"at [{row}, {column}]" in failure


@each_dtype
def test_swapped_rows_are_found_and_named(dtype: torch.dtype) -> None:
    kernel = make_kernel(dtype)
    weight = kernel.flatten(1).clone()
    weight[[5, 17]] = weight[[17, 5]]
    failure = check(kernel, weight).failure
    assert failure is not None
    assert failure.startswith("column 0 of the linear weight")
    assert failure.endswith("(first at output channel 5)")


def test_swapped_columns_are_found_in_the_last_block_too() -> None:
    kernel = make_kernel(torch.bfloat16, (8, 3, 2, 14, 14))
    weight = kernel.flatten(1).clone()
    weight[:, [1174, 1175]] = weight[:, [1175, 1174]]
    failure = check(kernel, weight).failure
    assert failure is not None
    assert failure.startswith("column 1174 of the linear weight is not kernel[:, 2, 1, 13, 12]")


@pytest.mark.parametrize("column", [None, 0, 17, 95])
def test_a_conv3d_is_exact_if_it_gives_every_column_back(
    column: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv3d = functional.conv3d

    def flawed(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        output = conv3d(x, *arguments, **options)
        if column is not None:
            output[x.flatten(1)[:, column] == 1] *= 1 + 2**-20
        return output

    counted: list[int] = []
    kernel = make_kernel()
    monkeypatch.setattr(functional, "conv3d", flawed)
    layers = Layers(kernel, kernel.flatten(1), None, None)
    assert conv3d_is_exact(layers, kernel, counted.append) == (column is None)
    assert sum(counted) == kernel[0].numel()


def test_each_patch_counts_once_where_conv3d_gets_a_part_of_them() -> None:
    counted: list[int] = []
    kernel = make_kernel(torch.bfloat16, (400, 3, 2, 14, 14))
    assert conv3d_is_exact(Layers(kernel, kernel.flatten(1), None, None), kernel, counted.append)
    assert sum(counted) == 1176
    assert max(counted) > 128, "blocks were left out"
