"""Decide whether a linear layer is the same map as a Conv3d whose stride equals its kernel.

Both are affine maps of a flattened patch of K = C·T·P·P values, so the question is decided, not
sampled: they are equal if they agree on a basis and at zero. Sampled patches then show that the
arithmetic of this device stays within its a-priori error bound.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from conv2linear.equivalence.basis import compare_on_basis
from conv2linear.equivalence.device import describe_environment, full_precision, wait_for
from conv2linear.equivalence.error_bound import measure_errors
from conv2linear.equivalence.layers import Layers, move_to
from conv2linear.equivalence.outcome import (
    SPEED_PATCHES,
    Environment,
    Equivalence,
    LayerError,
    Step,
)

_SPEED_RUNS = 9


def check_equivalence(
    kernel: Tensor, weight: Tensor, *, bias: Tensor | None, device: torch.device
) -> Equivalence:
    """Compare the Conv3d of `kernel` `[O, C, T, P, P]` with the linear layer of `weight` `[O, K]`.

    All three tensors are on the CPU and of one dtype (bfloat16, float16 or float32); `bias` is
    `[O]` and belongs to both layers.
    """
    environment = describe_environment(device)
    dtype = str(weight.dtype).removeprefix("torch.")
    mismatch = _find_shape_mismatch(kernel, weight)
    early_failure = mismatch or _find_not_finite(weight=weight, bias=bias)
    if early_failure:
        return Equivalence(
            failure=early_failure,
            failed_step=Step.EQUIVALENCE if mismatch else Step.FINITE,
            dtype=dtype,
            environment=environment,
        )
    with torch.inference_mode(), full_precision():
        layers = Layers(kernel.to(device), weight.to(device), bias=move_to(bias, device))
        failure, conv3d_is_exact = compare_on_basis(layers, kernel)
        sampled_patches, linear, conv3d = measure_errors(layers, kernel, bias)
        linear_s, conv3d_s = (
            _median_time(layer, layers.random_patches(SPEED_PATCHES), device)
            for layer in (layers.linear, layers.conv3d)
        )
    step = Step.EQUIVALENCE if failure else None
    if failure is None and not linear.max_over_bound <= 1:
        step, failure = (
            Step.NUMERICS,
            f"linear layer exceeds its error bound {linear.max_over_bound:.3g} times",
        )
    conv3d_is_right = conv3d_is_exact and conv3d.max_over_bound <= 1
    return Equivalence(
        failure=failure,
        failed_step=step,
        warning=None if conv3d_is_right else _broken_conv3d(environment, conv3d, conv3d_is_exact),
        dtype=dtype,
        basis_patches=weight.shape[1],
        sampled_patches=sampled_patches,
        linear=linear,
        conv3d=conv3d,
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


def _median_time(layer: Callable[[Tensor], Tensor], patches: Tensor, device: torch.device) -> float:
    times = []
    for _ in range(_SPEED_RUNS + 1):
        wait_for(device)
        start = time.perf_counter()
        layer(patches)
        wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first run warms up


def _broken_conv3d(environment: Environment, error: LayerError, is_exact: bool) -> str:
    what = "exceeds its error bound" if is_exact else "does not give its own columns back"
    return (
        f"Conv3d on this machine {what} ({error.max_over_bound:.3g} times the bound; "
        f"{environment.versions}): the checkpoint is fine, the original layer is not"
    )
