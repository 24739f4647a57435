"""`bench`: measure Conv3d against the linear layer, on the patches of real images and a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from conv2linear.checkpoint.checkpoint import Checkpoint, open_checkpoint
from conv2linear.checkpoint.model_types import MODEL_TYPES, Geometry
from conv2linear.checkpoint.stored_layer import read_layer
from conv2linear.equivalence.device import (
    choose_device,
    compute_on,
    describe_environment,
    device_errors,
)
from conv2linear.equivalence.load import load_bias, load_kernel
from conv2linear.equivalence.outcome import Environment
from conv2linear.equivalence.settings import own_settings
from conv2linear.errors import Conv2LinearError
from conv2linear.operations.bench.inputs import BenchLimits, list_inputs
from conv2linear.operations.bench.measure import DTYPES, Measurement, measure_inputs
from conv2linear.operations.bench.vision_tower import Tower, bench_tower
from conv2linear.paths import StrPath
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.result import Result

_WEIGHT_STD = 0.02  # of a random layer, as transformers initialises one


@dataclass(frozen=True)
class Bench(Result):
    """All measurements of a layer of `kernel_shape` `[O, C, T, P, P]`, and where they ran.

    `source` is the checkpoint, None for a random layer, and `threads` those of torch on the CPU.
    `tower` is None where no folder was given. `warnings` name a Conv3d that computes something
    else on this machine.
    """

    source: str | None
    kernel_shape: tuple[int, ...]
    environment: Environment
    threads: int
    measurements: tuple[Measurement, ...]
    tower: Tower | None
    warnings: tuple[str, ...]


def bench(
    source: StrPath | None = None,
    *,
    device: str = "auto",
    dtype: str | None = None,
    limits: BenchLimits | None = None,
    progress: Progress | None = None,
) -> Bench:
    """Time Conv3d and the linear layer of a patch embedding, and compare their outputs.

    TF32 is off, as in the equivalence check, and every output element is compared with the same
    error bound. An input too slow for this device is left out and named. The vision tower is timed
    too if `source` is a folder and transformers is installed. Takes about 1 GB of memory.

    Args:
        source: the checkpoint that has the layer, a folder or a Hub id; None for a random layer of
            the size of GLM-4.5V's.
        device: where to measure: auto, cpu, cuda or cuda:N.
        dtype: bf16, fp16 or fp32; None for all three.
        limits: the inputs, and the time that they may take; None for the usual ones.
        progress: told of steps and warnings.

    Raises `CheckFailedError` where the linear layer exceeds its bound, `DeviceError` where torch
    does not find `device`, `Conv2LinearError` for another `dtype` or for `limits` of another type,
    and what `inspect_checkpoint` raises.
    """
    if not isinstance(limits, BenchLimits | None):
        raise Conv2LinearError(f"limits is {limits!r}, expected a BenchLimits", hint="or None")
    limits, progress = limits or BenchLimits(), RecordedProgress(progress)
    if dtype is not None and dtype not in list(DTYPES):
        raise Conv2LinearError(f"dtype {dtype!r} is not known", hint=f"use {', '.join(DTYPES)}")
    chosen = choose_device(device, warn=progress.warn)
    checkpoint = None
    if source is not None:
        progress.step("open")
        checkpoint = open_checkpoint(source)
    kernel, bias = _read_first_layer(checkpoint) if checkpoint else _make_random_layer()
    inputs = list_inputs(limits.inputs, Geometry(kernel.shape[0], *kernel.shape[1:4]))

    def measure(on: torch.device) -> tuple[Environment, list[Measurement]]:
        measurements: list[Measurement] = []
        for name in DTYPES if dtype is None else (dtype,):
            with (
                progress.beside(f"measure {name}", len(inputs), "inputs") as on_inputs,
                own_settings(),
                device_errors(on),
            ):
                measurements += measure_inputs(
                    kernel,
                    bias,
                    dtype=name,
                    inputs=inputs,
                    device=on,
                    limits=limits,
                    on_inputs=on_inputs,
                )
        return describe_environment(on), measurements

    progress.step("measure")
    environment, measurements = compute_on(chosen, measure, warn=progress.warn)
    for warning in _find_wrong_conv3d(measurements, environment):
        progress.warn(warning)
    tower = None
    if source is not None and checkpoint and Path(source).is_dir() and limits.tower_side:
        tower = bench_tower(
            Path(source),
            layout=checkpoint.layout,
            device=environment.device,
            limits=limits,
            progress=progress,
        )
    return Bench(
        source=checkpoint.repository.label if checkpoint else None,
        kernel_shape=tuple(kernel.shape),
        environment=environment,
        threads=torch.get_num_threads(),
        measurements=tuple(measurements),
        tower=tower,
        warnings=progress.warnings,
    )


def _make_random_layer() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = MODEL_TYPES["glm4v_moe"].geometry({}).kernel_shape
    kernel = torch.randn(shape, generator=generator, dtype=torch.float32) * _WEIGHT_STD
    bias = torch.randn(shape[0], generator=generator, dtype=torch.float32) * _WEIGHT_STD
    return kernel, bias


def _read_first_layer(checkpoint: Checkpoint) -> tuple[Tensor, Tensor | None]:
    """Read the first patch embedding, in either layout, as a kernel `[O, C, T, P, P]`."""
    layer = read_layer(checkpoint, checkpoint.patch_embeddings[0])
    return load_kernel(layer), load_bias(layer)


def _find_wrong_conv3d(
    measurements: Sequence[Measurement], environment: Environment
) -> Iterator[str]:
    """Name, for each dtype, the input on which Conv3d exceeds its bound the most."""
    worst: dict[str, tuple[float, str]] = {}
    for measurement in measurements:
        found = (measurement.conv3d.max_over_bound or 0.0, measurement.input.name)
        worst[measurement.dtype] = max(worst.get(measurement.dtype, found), found)
    for dtype, (ratio, name) in worst.items():
        if ratio > 1:
            yield (
                f"Conv3d is wrong on this machine: {name} in {dtype} is {ratio:.3g} times its "
                f"error bound ({environment.versions})"
            )
