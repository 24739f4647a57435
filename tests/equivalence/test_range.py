"""A finite weight is never refused for being large or tiny, whatever a unit makes of subnormals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.outcome import Equivalence
from conv2linear.equivalence.patches import find_largest_input, random_patches, sample_patches
from tests.equivalence.kernels import (
    CPU,
    check,
    each_device,
    each_dtype,
    make_bias,
    make_kernel,
)

SMALLEST_NORMAL = 2.0**-126


def flush(tensor: Tensor) -> Tensor:
    return tensor.where(tensor.abs() >= SMALLEST_NORMAL, torch.zeros_like(tensor))


def assert_sound(outcome: Equivalence, device: torch.device) -> None:
    assert outcome.failure is None
    assert outcome.warning is None or device != CPU  # a GPU's Conv3d may be wrong


@each_device
@each_dtype
@pytest.mark.parametrize("share", [1.0, 0.999, 0.9, 1e-3])
@pytest.mark.parametrize("what", ["one", "channel", "all"])
def test_large_weights_are_the_same_map(
    what: str, share: float, dtype: torch.dtype, device: torch.device
) -> None:
    kernel = make_kernel(dtype)
    part = {"one": kernel[0, 0, 0, 0, :1], "channel": kernel[0], "all": kernel}[what]
    part.copy_(part.sign() * (torch.finfo(dtype).max * share))
    assert_sound(check(kernel, device=device), device)


@each_device
@each_dtype
@pytest.mark.parametrize("share", [1.0, 0.999, 0.9, 1e-3])
@pytest.mark.parametrize("large", ["bias", "bias and weight"])
def test_a_large_bias_is_the_same_map(
    large: str, share: float, dtype: torch.dtype, device: torch.device
) -> None:
    largest = torch.finfo(dtype).max * share
    bias = make_bias(dtype)
    bias[::2] = bias[::2].sign() * largest
    kernel = make_kernel(dtype)
    if large == "bias and weight":
        kernel = kernel.sign() * largest
    assert_sound(check(kernel, bias=bias, device=device), device)


@each_dtype
@pytest.mark.parametrize("value", [1e-39, -1e-39, 1e-45, 2.0**-126, 1e-30, 0.0])
def test_a_channel_of_tiny_weights_is_the_same_map(value: float, dtype: torch.dtype) -> None:
    kernel, bias = make_kernel(dtype), make_bias(dtype)
    kernel[5], bias[5] = value, value
    outcome = check(kernel, bias=bias)
    assert (outcome.failure, outcome.warning) == (None, None)


@each_dtype
@pytest.mark.parametrize("flushed", ["inputs", "sums", "both"])
def test_a_unit_that_flushes_subnormals_is_within_the_bound(
    flushed: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = functional.linear

    def flushing(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if flushed != "sums":
            patches, weight = flush(patches), flush(weight)
            bias = None if bias is None else flush(bias)
        output = linear(patches, weight, bias)
        return output if flushed == "inputs" else flush(output)

    monkeypatch.setattr(functional, "linear", flushing)
    kernel, bias = make_kernel(dtype), make_bias(dtype)
    kernel[3], bias[3] = 1e-39, 0
    kernel[4], bias[4] = -1.1e-38, 1e-39
    kernel[5] = torch.linspace(-3e-38, 3e-38, kernel[5].numel()).view(kernel[5].shape).to(dtype)
    outcome = check(kernel, bias=bias)
    assert outcome.failure is None


def test_the_bound_still_finds_a_layer_that_loses_small_but_normal_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    linear = functional.linear
    monkeypatch.setattr(
        functional,
        "linear",
        lambda x, w, b=None: linear(x, w, b).where(
            (x != 0).sum(dim=1, keepdim=True) <= 1, linear(x, w.where(w.abs() > 1e-30, 0.0), b)
        ),
    )
    kernel = make_kernel()
    kernel[3] = 1e-33
    outcome = check(kernel, bias=None)
    assert outcome.failure is not None
    assert outcome.failure.startswith("linear layer exceeds its error bound")


@each_dtype
def test_bits_of_subnormals_are_compared_though_units_may_flush_them(dtype: torch.dtype) -> None:
    kernel = make_kernel(dtype)
    kernel[7, 1, 0, 2, 3] = torch.finfo(dtype).tiny / 2
    weight = kernel.flatten(1).clone()
    column = 1 * 2 * 4 * 4 + 2 * 4 + 3
    weight[7, column] *= 0.5
    failure = check(kernel, weight).failure
    assert failure is not None
    assert failure.startswith(f"column {column} of the linear weight is not kernel[:, 1, 0, 2, 3]")


@each_dtype
def test_no_sum_leaves_the_range_and_patches_that_fit_are_not_scaled(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    kernel = make_kernel(dtype)
    usual = sample_patches(kernel, bias=None)
    assert usual.ordinary.std() > 0.5
    kernel[0, 0, 0, 0, 0] = limits.max
    bias = make_bias(dtype) * (limits.max / 8)
    samples = sample_patches(kernel, bias=bias)
    weight64 = kernel.flatten(1).double().abs()
    for patches in (*samples.chunks, random_patches(256, kernel.flatten(1), bias=bias)):
        sums = patches.double().abs() @ weight64.T + bias.double().abs()
        assert sums.max() <= limits.max
        assert (patches != 0).any(dim=1).all()


def test_a_bias_at_the_end_of_the_range_leaves_what_it_absorbs() -> None:
    weight, bias = torch.ones(1, 4).half(), torch.tensor([65504.0]).half()
    largest = find_largest_input(weight, bias=bias)
    assert 0 < largest * 4 < 16  # half a unit in the last place of 65504
