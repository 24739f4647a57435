"""Decide whether a linear layer is the same map as a Conv3d whose stride equals its kernel.

Both are affine maps of a flattened patch of K = C·T·P·P values. Two affine maps that agree at zero
and on a basis are equal, so the question is decided and not sampled. Sampled patches then show that
the arithmetic of this device stays within its a-priori error bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from conv2linear.equivalence.basis import BasisComparison, compare_on_basis
from conv2linear.equivalence.device import describe_environment, full_precision, wait_for
from conv2linear.equivalence.error_bound import SampledErrors, measure_errors
from conv2linear.equivalence.layers import place_layers
from conv2linear.equivalence.outcome import SPEED_PATCHES, Environment, Equivalence, Step
from conv2linear.equivalence.patches import random_patches
from conv2linear.equivalence.timing import time_runs

_SPEED_RUNS = 9


def check_equivalence(
    kernel: Tensor, weight: Tensor, *, bias: Tensor | None, device: torch.device
) -> Equivalence:
    """Compare the Conv3d of `kernel` `[O, C, T, P, P]` with the linear layer of `weight` `[O, K]`.

    All three tensors are on the CPU and of one dtype (bfloat16, float16 or float32); `bias` is
    `[O]` and belongs to both layers.
    """
    dtype = str(weight.dtype).removeprefix("torch.")
    environment = describe_environment(device)
    outcome = Equivalence(dtype=dtype, environment=environment)
    if failure := _find_shape_mismatch(kernel, weight):
        return dataclasses.replace(outcome, failed_step=Step.EQUIVALENCE, failure=failure)
    if failure := _find_not_finite(weight=weight, bias=bias):
        return dataclasses.replace(outcome, failed_step=Step.FINITE, failure=failure)
    with torch.inference_mode(), full_precision():
        layers = place_layers(kernel, weight, bias=bias, device=device)
        basis = compare_on_basis(layers, kernel)
        errors = measure_errors(layers, kernel, bias=bias)
        patches = random_patches(SPEED_PATCHES, layers.weight)
        linear_s = _median_time(layers.linear, patches)
        conv3d_s = _median_time(layers.conv3d, patches)
    failed_step, failure = _judge_linear(basis, errors)
    return Equivalence(
        failure=failure,
        failed_step=failed_step,
        warning=_judge_conv3d(basis, errors, environment),
        dtype=dtype,
        basis_patches=weight.shape[1],
        sampled_patches=errors.sampled_patches,
        linear=errors.linear,
        conv3d=errors.conv3d,
        environment=environment,
        linear_s=linear_s,
        conv3d_s=conv3d_s,
    )


def _find_shape_mismatch(kernel: Tensor, weight: Tensor) -> str | None:
    expected = (kernel.shape[0], math.prod(kernel.shape[1:]))
    if tuple(weight.shape) == expected and weight.dtype == kernel.dtype:
        return None
    found = f"{weight.dtype} {list(weight.shape)}"
    return f"linear weight is {found}, expected {kernel.dtype} {list(expected)}"


def _find_not_finite(**tensors: Tensor | None) -> str | None:
    for name, tensor in tensors.items():
        if tensor is not None and not (finite := tensor.isfinite()).all():
            index = (~finite).nonzero()[0].tolist()
            return f"{name} is {tensor[tuple(index)].item()} at {index}"
    return None


def _median_time(layer: Callable[[Tensor], Tensor], patches: Tensor) -> float:
    def run() -> None:
        layer(patches)
        wait_for(patches.device)

    run()  # warms up the runs that count
    return time_runs(run, runs=_SPEED_RUNS).median_s


def _judge_linear(basis: BasisComparison, errors: SampledErrors) -> tuple[Step | None, str | None]:
    """Return the step that the linear layer fails and what is wrong, if anything is."""
    if basis.failure:
        return Step.EQUIVALENCE, basis.failure
    if not errors.linear.max_over_bound <= 1:
        times = f"{errors.linear.max_over_bound:.3g}"
        return Step.NUMERICS, f"linear layer exceeds its error bound {times} times"
    return None, None


def _judge_conv3d(
    basis: BasisComparison, errors: SampledErrors, environment: Environment
) -> str | None:
    """Return what is wrong with this machine's Conv3d, if anything is; never a failure.

    cuDNN before 9.15 can compute a wrong one (github.com/pytorch/pytorch/issues/168167).
    """
    ratio = errors.conv3d.max_over_bound
    if basis.conv3d_is_exact and ratio <= 1:
        return None
    problem = (
        "exceeds its error bound" if basis.conv3d_is_exact else "does not give its own columns back"
    )
    return (
        f"Conv3d on this machine {problem} ({ratio:.3g} times the bound; "
        f"{environment.versions}): the checkpoint is fine, the original layer is not"
    )
