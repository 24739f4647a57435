"""The check calls two layers equal exactly where they are, and says what is wrong elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.outcome import Step
from tests.equivalence.kernels import (
    CPU,
    check,
    each_device,
    each_dtype,
    is_dense,
    make_bias,
    make_kernel,
)


@each_device
@each_dtype
def test_a_flattened_kernel_is_the_same_map(dtype: torch.dtype, device: torch.device) -> None:
    outcome = check(make_kernel(dtype), device=device)
    assert outcome.failure is None
    assert outcome.dtype == str(dtype).removeprefix("torch.")
    assert outcome.basis_patches == 3 * 2 * 4 * 4
    assert outcome.sampled_patches > 256
    assert outcome.linear is not None
    assert 0 < outcome.linear.max_over_bound <= 1
    if device == CPU:  # a GPU's Conv3d may be wrong
        assert outcome.warning is None
        assert outcome.conv3d is not None
        assert 0 < outcome.conv3d.max_over_bound <= 1
    assert outcome.environment.torch == torch.__version__
    assert outcome.environment.device == str(device)


@pytest.mark.parametrize("bias", ["random", "zeros", None])
def test_the_real_shape_is_the_same_map(bias: str | None) -> None:
    kernel = make_kernel(torch.bfloat16, (1536, 3, 2, 14, 14))
    zeros = torch.zeros(1536, dtype=torch.bfloat16)
    outcome = check(kernel, bias=zeros if bias == "zeros" else bias)
    assert outcome.failure is None
    assert outcome.warning is None
    assert outcome.basis_patches == 1176


@each_dtype
@pytest.mark.parametrize("shape", [(8, 3, 1, 16, 16), (5, 1, 3, 2, 2), (1, 1, 1, 1, 1)], ids=str)
def test_another_geometry_is_the_same_map(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    assert check(make_kernel(dtype, shape)).failure is None
    assert check(make_kernel(dtype, shape), bias=None).failure is None


@each_dtype
def test_weights_of_minus_zero_are_equal_to_themselves(dtype: torch.dtype) -> None:
    kernel = make_kernel(dtype)
    kernel.view(-1)[::3] = -0.0
    assert check(kernel).failure is None
    assert check(torch.full_like(kernel, -0.0), bias=None).failure is None


@each_device
@each_dtype
def test_subnormal_weights_are_the_same_map(dtype: torch.dtype, device: torch.device) -> None:
    limits = torch.finfo(dtype)
    kernel = make_kernel(dtype)
    kernel.view(-1)[::3] = limits.tiny * limits.eps  # the smallest there is
    kernel.view(-1)[1::3] = limits.tiny / 2
    assert (kernel != 0).all()
    outcome = check(kernel, device=device)
    assert outcome.failure is None


@each_dtype
def test_weights_and_biases_near_the_end_of_the_range_are_the_same_map(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    kernel = make_kernel(dtype).sign() * (largest / 1000)
    assert check(kernel, bias=make_bias(dtype).sign() * (largest / 8)).failure is None
    assert check(kernel * 0, bias=make_bias(dtype) * 0).failure is None


def test_the_same_input_gives_the_same_report() -> None:
    assert check(make_kernel()) == check(make_kernel())


@each_device
@each_dtype
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_found_and_named(
    value: float, dtype: torch.dtype, device: torch.device
) -> None:
    kernel = make_kernel(dtype)
    kernel.view(-1)[200] = value
    assert check(kernel, device=device).failure == f"weight is {value} at {[200 // 96, 200 % 96]}"
    bias = make_bias(dtype)
    bias[11] = value
    assert check(make_kernel(dtype), bias=bias, device=device).failure == f"bias is {value} at [11]"


def test_a_kernel_that_is_not_finite_where_the_weight_is_is_found() -> None:
    kernel = make_kernel()
    weight = kernel.flatten(1).clone()
    kernel.view(-1)[0] = float("nan")
    assert check(kernel, weight).failure is not None


def test_another_dtype_is_found_and_named() -> None:
    kernel = make_kernel(torch.bfloat16)
    failure = check(kernel, kernel.flatten(1).half()).failure
    assert failure is not None
    assert "torch.float16" in failure
    assert "torch.bfloat16" in failure


@pytest.mark.parametrize("shape", [(96, 24), (24, 95), (24, 3, 32), (23, 96)], ids=str)
def test_another_shape_is_found_and_named(shape: tuple[int, ...]) -> None:
    failure = check(make_kernel(), torch.zeros(shape)).failure
    assert failure is not None
    assert str(list(shape)) in failure
    assert "[24, 96]" in failure


@each_device
def test_a_linear_layer_over_its_bound_is_a_failure(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = functional.linear

    def inexact(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return linear(patches, weight, bias) * (1 + is_dense(patches)[:, None] * 1e-3)

    monkeypatch.setattr(functional, "linear", inexact)
    failure = check(make_kernel(), device=device).failure
    assert failure is not None
    assert failure.startswith("linear layer exceeds its error bound")


@each_device
def test_a_linear_layer_that_forgets_the_bias_is_a_failure(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = functional.linear
    monkeypatch.setattr(functional, "linear", lambda x, weight, bias=None: linear(x, weight))
    assert check(make_kernel(), device=device).failure == "the zero patch does not give the bias"


@each_device
def test_a_linear_layer_that_gives_nan_is_a_failure(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = functional.linear

    def broken(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = linear(patches, weight, bias)
        output[is_dense(patches)] = float("nan")
        return output

    monkeypatch.setattr(functional, "linear", broken)
    assert check(make_kernel(), device=device).failure is not None


@each_device
@pytest.mark.parametrize("fault", ["swapped channels", "inexact", "nan", "zeros", "no bias"])
def test_a_broken_conv3d_is_a_warning_and_no_failure(
    fault: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv3d = functional.conv3d

    def broken(x: Tensor, kernel: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
        output = conv3d(x, kernel, None if fault == "no bias" else bias, **options)
        return {
            "swapped channels": output.flip(1),
            "inexact": output * (1 + 1e-3 * is_dense(x.flatten(1)).view(-1, 1, 1, 1, 1)),
            "nan": output * float("nan"),
            "zeros": output * 0,
            "no bias": output,
        }[fault]

    monkeypatch.setattr(functional, "conv3d", broken)
    outcome = check(make_kernel(), device=device)
    assert outcome.failure is None
    assert outcome.warning is not None
    assert outcome.warning.startswith("Conv3d on this machine")
    assert torch.__version__ in outcome.warning
    assert "the checkpoint is fine" in outcome.warning
    assert outcome.conv3d is not None
    assert outcome.conv3d.max_over_bound > 1


def test_a_failure_names_the_first_step_that_found_it() -> None:
    kernel = make_kernel()
    not_finite = kernel.flatten(1).clone()
    not_finite[0, 0] = float("nan")
    assert check(kernel).failed_step is None
    assert check(kernel, not_finite).failed_step is Step.FINITE
    assert check(kernel, kernel.flatten(1) * 2).failed_step is Step.EQUIVALENCE
    assert check(kernel, kernel.flatten(1).half()).failed_step is Step.EQUIVALENCE
