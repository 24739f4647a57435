"""Decide whether a linear layer is the same map as a Conv3d whose stride equals its kernel.

Both are affine maps of a flattened patch of K = C·T·P·P values. Two affine maps that agree at zero
and on a basis are equal, so the question is decided and not sampled. Sampled patches then show that
the arithmetic of this device stays within its a-priori error bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conv2linear.equivalence.basis import conv3d_is_exact, find_difference
from conv2linear.equivalence.device import (
    describe_environment,
    device_errors,
    first_line,
)
from conv2linear.equivalence.error_bound import measure_errors
from conv2linear.equivalence.layers import Layers, place_layers
from conv2linear.equivalence.outcome import (
    Environment,
    Equivalence,
    LayerError,
    Step,
)
from conv2linear.equivalence.patches import Samples, sample_patches
from conv2linear.equivalence.settings import own_settings
from conv2linear.progress import NoProgress, Progress

OnPatches = Callable[[int], None]  # is told how many more patches are done


@dataclass(frozen=True, eq=False)
class _LayerRun:
    """What a layer gave on a device: its outputs on sampled patches, on the CPU.

    `problem` says what is wrong with them beyond numbers.
    """

    outputs: tuple[Tensor, ...]
    problem: str | None


def check_equivalence(
    kernel: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None,
    kernel_bias: Tensor | None,
    device: torch.device,
    is_compared: bool = True,
    progress: Progress | None = None,
) -> Equivalence:
    """Compare the Conv3d of `kernel` `[O, C, T, P, P]` with the linear layer of `weight` `[O, K]`.

    All tensors are on the CPU and of one dtype (bfloat16, float16 or float32). `bias` and
    `kernel_bias` are `[O]`. Without `is_compared` the kernel is the weight itself, for want of
    another: nothing is compared on one-hot patches then, as it would be equal to itself.
    `progress` is told how many patches have gone through a layer, or been compared with float64.

    Raises `DeviceError` where the linear layer cannot be computed on the device.
    """
    with own_settings(), device_errors(device):
        outcome = Equivalence(
            dtype=str(weight.dtype).removeprefix("torch."), environment=describe_environment(device)
        )
        if failure := _find_shape_mismatch(kernel, weight):
            return dataclasses.replace(outcome, failed_step=Step.EQUIVALENCE, failure=failure)
        if failure := _find_not_finite(weight=weight, bias=bias):
            return dataclasses.replace(outcome, failed_step=Step.FINITE, failure=failure)
        layers = Layers(kernel, weight, bias, kernel_bias)
        progress = progress or NoProgress()
        return _measure(outcome, layers, device=device, is_compared=is_compared, progress=progress)


def _measure(
    outcome: Equivalence,
    stored: Layers,
    *,
    device: torch.device,
    is_compared: bool,
    progress: Progress,
) -> Equivalence:
    """Run both layers on the device; Conv3d only when all is known of the linear layer."""
    samples = sample_patches(stored.kernel, bias=stored.kernel_bias)
    layers = place_layers(stored, device)
    basis_patches = stored.weight.shape[1] if is_compared else 0
    total = basis_patches + stored.weight.shape[1] + 3 * len(samples)
    with progress.beside("check", total, "patches") as on_patches:
        linear = _LayerRun(
            problem=find_difference(layers, stored, on_patches) if is_compared else None,
            outputs=_run(layers.linear, samples, on_patches, device=device),
        )
        conv3d = _run_conv3d(layers, stored, samples, on_patches)
        errors = measure_errors(
            [run.outputs for run in (linear, conv3d) if run.outputs],
            samples,
            kernel=stored.kernel,
            bias=stored.kernel_bias,
            on_patches=on_patches,
        )
    linear_error, conv3d_error = errors[0], errors[1] if conv3d.outputs else None
    failed_step, failure = _judge_linear(linear, linear_error)
    return dataclasses.replace(
        outcome,
        failure=failure,
        failed_step=failed_step,
        warning=_judge_conv3d(conv3d, conv3d_error, outcome.environment),
        basis_patches=basis_patches,
        sampled_patches=len(samples),
        linear=linear_error,
        conv3d=conv3d_error,
    )


def _run_conv3d(
    layers: Layers, stored: Layers, samples: Samples, on_patches: OnPatches
) -> _LayerRun:
    """Run Conv3d, which may fail on this machine whatever the checkpoint is.

    cuDNN before 9.15 can compute a wrong one (github.com/pytorch/pytorch/issues/168167), and may
    have no engine for a dtype; its workspace may not fit into memory.
    """
    try:
        is_exact = conv3d_is_exact(layers, stored.kernel, on_patches)
        return _LayerRun(
            problem=None if is_exact else "does not give its own columns back",
            outputs=_run(layers.conv3d, samples, on_patches, device=layers.kernel.device),
        )
    except Exception as error:
        return _LayerRun((), f"cannot be computed: {first_line(error)}")


def _run(
    layer: Callable[[Tensor], Tensor],
    samples: Samples,
    on_patches: OnPatches,
    *,
    device: torch.device,
) -> tuple[Tensor, ...]:
    outputs = []
    for chunk in samples.chunks:
        outputs.append(layer(chunk.to(device)).cpu())
        on_patches(len(chunk))
    return tuple(outputs)


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


def _judge_linear(run: _LayerRun, error: LayerError) -> tuple[Step | None, str | None]:
    """Return the step that the linear layer fails and what is wrong, if anything is."""
    if run.problem:
        return Step.EQUIVALENCE, run.problem
    if not error.max_over_bound <= 1:
        times = f"{error.max_over_bound:.3g}"
        return Step.NUMERICS, f"linear layer exceeds its error bound {times} times"
    return None, None


def _judge_conv3d(run: _LayerRun, error: LayerError | None, environment: Environment) -> str | None:
    """Return what is wrong with this machine's Conv3d, if anything is; never a failure."""
    problem, found = run.problem, environment.versions
    if error is not None:
        found = f"{error.max_over_bound:.3g} times the bound; {found}"
        if not error.max_over_bound <= 1:
            problem = problem or "exceeds its error bound"
    if problem is None:
        return None
    return (
        f"Conv3d on this machine {problem} ({found}): "
        "the checkpoint is fine, the original layer is not"
    )
