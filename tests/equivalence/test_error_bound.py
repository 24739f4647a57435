"""Errors against float64 are those that an outside computation finds, and that were planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.error_bound import largest_error
from tests.equivalence.kernels import check, each_dtype, is_dense, make_bias, make_kernel


def test_the_error_that_is_reported_is_the_one_that_was_planted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exact(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = patches.double() @ weight.double().T
        output = output if bias is None else output + bias.double()
        if len(patches) > 100 and is_dense(patches).all():
            output[3, 5] += 0.125
        return output.float()

    monkeypatch.setattr(functional, "linear", exact)
    outcome = check(make_kernel())
    assert outcome.linear is not None
    assert outcome.linear.max_abs == pytest.approx(0.125, rel=1e-4)
    assert outcome.linear.max_over_bound > 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_error_stays_where_an_outside_computation_finds_it(dtype: torch.dtype) -> None:
    """numpy's float64 product of the same random patches gives an error of the same size."""
    kernel, bias = make_kernel(dtype), make_bias(dtype)
    patches = torch.randn(256, kernel[0].numel()).to(dtype)
    output = functional.linear(patches, kernel.flatten(1), bias).float().numpy()
    weight = kernel.flatten(1).float().numpy().astype(np.float64)
    exact = patches.float().numpy().astype(np.float64) @ weight.T + bias.float().numpy()
    outcome = check(kernel)
    assert outcome.linear is not None
    assert outcome.linear.max_abs == pytest.approx(np.abs(output - exact).max(), rel=1.0)


@each_dtype
def test_an_element_beyond_its_bound_is_found_wherever_it_is(dtype: torch.dtype) -> None:
    kernel, bias = make_kernel(dtype, (300, 3, 2, 4, 4)), make_bias(dtype, 300)
    patches = torch.randn(5, 96, generator=torch.Generator().manual_seed(4)).to(dtype)
    exact = patches.double() @ kernel.flatten(1).double().T + bias.double()
    output = exact.to(dtype)
    sound = largest_error(output, patches, kernel=kernel, bias64=bias.double())
    assert sound.max_abs == (output.double() - exact).abs().max()
    assert sound.max_over_bound <= 1
    for patch, channel in ((0, 0), (4, 127), (2, 128), (3, 299)):
        damaged = output.clone()
        damaged[patch, channel] += 0.5
        found = largest_error(damaged, patches, kernel=kernel, bias64=bias.double())
        assert found.max_abs == (damaged.double() - exact).abs().max()
        assert found.max_over_bound > 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_output_that_is_not_finite_exceeds_every_bound(value: float) -> None:
    kernel, bias = make_kernel(), make_bias()
    patches = torch.randn(5, 96, generator=torch.Generator().manual_seed(4))
    output = functional.linear(patches, kernel.flatten(1), bias)
    output[1, 7] = value
    error = largest_error(output, patches, kernel=kernel, bias64=bias.double())
    assert error.max_abs == error.max_over_bound == torch.finfo(torch.float64).max


def test_a_patch_or_a_weight_that_is_not_finite_exceeds_every_bound() -> None:
    kernel, bias = make_kernel(), make_bias()
    patches = torch.randn(5, 96, generator=torch.Generator().manual_seed(4))
    output = functional.linear(patches, kernel.flatten(1), bias)
    kernel[3, 0, 0, 0, 0] = float("nan")
    error = largest_error(output, patches, kernel=kernel, bias64=bias.double())
    assert error.max_abs == error.max_over_bound == torch.finfo(torch.float64).max


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("flushed", ["patches", "weight", "sums"])
def test_what_a_unit_flushes_is_within_the_bound_and_little_more(
    flushed: str, dtype: torch.dtype
) -> None:
    """A flushed subnormal changes a product by less than the other factor times 2⁻¹²⁶."""
    largest = 1e30
    patches, kernel = torch.full((2, 96), largest), torch.full((1, 3, 2, 4, 4), largest)
    if flushed == "patches":
        patches = torch.full((2, 96), 1.1e-38)
    if flushed == "weight":
        kernel = torch.full((1, 3, 2, 4, 4), 1.1e-38)
    if flushed == "sums":
        patches, kernel = torch.full((2, 96), 1e-20), torch.full((1, 3, 2, 4, 4), 1e-18)
    lost = torch.zeros(2, 1, dtype=dtype)
    bias64 = torch.zeros(1, dtype=torch.float64)
    found = largest_error(lost, patches.to(dtype), kernel=kernel.to(dtype), bias64=bias64)
    assert 0.5 < found.max_over_bound <= 1
    more = largest_error(lost, (patches * 4).to(dtype), kernel=kernel.to(dtype), bias64=bias64)
    if flushed != "weight":
        assert more.max_over_bound > 1
