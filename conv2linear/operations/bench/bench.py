"""`bench`: measure Conv3d against the linear layer, on the patches of real images and a video."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from conv2linear.checkpoint.checkpoint import Checkpoint, open_checkpoint
from conv2linear.checkpoint.model_types import MODEL_TYPES, Geometry
from conv2linear.equivalence.device import (
    describe_environment,
    full_precision,
    resolve_device,
    wait_for,
)
from conv2linear.equivalence.error_bound import largest_error
from conv2linear.equivalence.layers import Layers
from conv2linear.equivalence.load import read_layer
from conv2linear.equivalence.outcome import Environment
from conv2linear.equivalence.timing import Timing, time_call
from conv2linear.errors import CheckFailedError, Conv2LinearError
from conv2linear.operations.bench.vision_tower import Tower, bench_tower
from conv2linear.progress import NoProgress, Progress

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# (name, frames, height, width); the video is 10 s at the 2 frames a second that GLM-4V samples.
_INPUTS = (
    ("224²", 1, 224, 224),
    ("448²", 1, 448, 448),
    ("720p", 1, 720, 1280),
    ("1080p", 1, 1080, 1920),
    ("4K", 1, 2160, 3840),
    ("720p, 10 s", 20, 720, 1280),
)
# Defaults of Glm4vImageProcessor and Glm4vVideoProcessor in transformers 5.23.
_MERGE_SIZE = 2
_MAX_IMAGE_PIXELS = 28 * 28 * 15_000
_MAX_VIDEO_PIXELS = 28 * 28 * 2 * 30_000
_DISTINCT_PATCHES = 256
_BUDGET_S = 0.8  # for the timed runs of one layer on one input
_LONGEST_RUN_S = 5.0  # an input that would take longer is left out
_TOWER_SIDE = 32  # patches along each side of a 448² image
_WEIGHT_STD = 0.02  # of a random layer, as transformers initialises one


@dataclass(frozen=True)
class BenchInput:
    """An image (one frame) or a video, and the patches that the processor cuts it into."""

    name: str
    frames: int
    height: int
    width: int
    patches: int


@dataclass(frozen=True)
class LayerResult:
    """One layer on one input: its timing, or `skipped` says why there is none.

    `max_over_bound` is the largest error of any output element, as a fraction of its a-priori
    bound: above 1 the layer computes something else.
    """

    timing: Timing | None
    max_over_bound: float | None
    skipped: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Both layers on one input in one dtype."""

    input: BenchInput
    dtype: str
    conv3d: LayerResult
    linear: LayerResult

    @property
    def speedup(self) -> float | None:
        """How many times faster the linear layer is, by the medians."""
        if self.conv3d.timing is None or self.linear.timing is None:
            return None
        return self.conv3d.timing.median_s / self.linear.timing.median_s


@dataclass(frozen=True)
class Bench:
    """All measurements; `warnings` names a Conv3d that computes something else on this machine."""

    source: str | None
    kernel_shape: tuple[int, ...]
    environment: Environment
    threads: int
    measurements: tuple[Measurement, ...]
    tower: Tower | None
    warnings: tuple[str, ...]


def bench(
    source: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str | None = None,
    progress: Progress | None = None,
) -> Bench:
    """Time Conv3d and the linear layer of a patch embedding, and compare their outputs.

    The layer is that of the checkpoint `source` (a folder, or a Hub id), or a random one of the
    size of GLM-4.5V's. `dtype` is bf16, fp16 or fp32; None measures all three. TF32 is off, as in
    the equivalence check, and every output element is held against the same error bound. An
    input too slow for this device is left out and named. The vision tower is timed too if
    `source` is a folder and transformers is installed. Takes about 1 GB of memory.

    Raises `CheckFailedError` where the linear layer exceeds its bound, `DeviceError` where
    `device` is not there, and what `open_checkpoint` raises.
    """
    progress = progress or NoProgress()
    if dtype is not None and dtype not in DTYPES:
        raise Conv2LinearError(f"dtype {dtype!r} is not known", hint=f"use {', '.join(DTYPES)}")
    torch_device = resolve_device(device)
    checkpoint = None
    if source is not None:
        progress.step("open")
        checkpoint = open_checkpoint(source)
    kernel, bias = _read_layer(checkpoint) if checkpoint else _random_layer()
    inputs = list_inputs(Geometry(kernel.shape[0], *kernel.shape[1:4]))
    measurements: list[Measurement] = []
    with torch.inference_mode(), full_precision():
        for name in DTYPES if dtype is None else (dtype,):
            progress.step(f"measure {name}")
            measurements += _measure(kernel, bias, name, inputs, torch_device)
    environment = describe_environment(torch_device)
    tower = None
    if checkpoint and Path(str(source)).is_dir():
        progress.step("measure the vision tower")
        tower = bench_tower(
            Path(str(source)), layout=checkpoint.layout, device=str(torch_device), side=_TOWER_SIDE
        )
    return Bench(
        source=checkpoint.repository.label if checkpoint else None,
        kernel_shape=tuple(kernel.shape),
        environment=environment,
        threads=torch.get_num_threads(),
        measurements=tuple(measurements),
        tower=tower,
        warnings=_find_wrong_conv3d(measurements, environment),
    )


def list_inputs(geometry: Geometry) -> tuple[BenchInput, ...]:
    """Return the images and the video that are measured, by the number of their patches."""
    inputs = (
        BenchInput(name, frames, height, width, count_patches(frames, height, width, geometry))
        for name, frames, height, width in _INPUTS
    )
    return tuple(sorted(inputs, key=lambda input_: input_.patches))


def count_patches(frames: int, height: int, width: int, geometry: Geometry) -> int:
    """Count the patches that GLM-4V's processors cut an image (one frame) or a video into.

    Height and width become multiples of a merged patch, and shrink where frames, height and width
    give too many pixels. The formula is that of `smart_resize` in transformers'
    `models/glm4v/image_processing_glm4v.py`, with the limits that the processors default to. An
    image counts as one temporal patch. For what is not tiny: they enlarge what is.
    """
    temporal, block = geometry.temporal_patch_size, _MERGE_SIZE * geometry.patch_size
    limit = _MAX_IMAGE_PIXELS if frames == 1 else _MAX_VIDEO_PIXELS
    frames = temporal if frames == 1 else frames
    rows, columns = round(height / block), round(width / block)
    if round(frames / temporal) * temporal * rows * columns * block**2 > limit:
        shrink = math.sqrt(frames * height * width / limit)
        rows, columns = int(height / shrink / block), int(width / shrink / block)
    return math.ceil(frames / temporal) * rows * columns * _MERGE_SIZE**2


def _random_layer() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = MODEL_TYPES["glm4v_moe"].geometry({}).kernel_shape
    kernel = torch.randn(shape, generator=generator) * _WEIGHT_STD
    return kernel, torch.randn(shape[0], generator=generator) * _WEIGHT_STD


def _read_layer(checkpoint: Checkpoint) -> tuple[Tensor, Tensor | None]:
    """Read the first patch embedding, in either layout, as a kernel `[O, C, T, P, P]`."""
    layer = read_layer(checkpoint, checkpoint.patch_embeddings[0])
    return layer.load_kernel(), layer.load_bias()


def _measure(
    kernel: Tensor,
    bias: Tensor | None,
    dtype: str,
    inputs: tuple[BenchInput, ...],
    device: torch.device,
) -> list[Measurement]:
    kernel = kernel.to(DTYPES[dtype])
    bias = None if bias is None else bias.to(DTYPES[dtype])
    layers = Layers(
        kernel.to(device),
        kernel.flatten(1).to(device),
        bias=bias if bias is None else bias.to(device),
    )
    patch_s = {"conv3d": 0.0, "linear": 0.0}  # of the input before, to foresee the next
    measurements = []
    for input_ in inputs:
        results: dict[str, LayerResult] = {}
        for name, layer in (("conv3d", layers.conv3d), ("linear", layers.linear)):
            foreseen_s = patch_s[name] * input_.patches
            if foreseen_s > _LONGEST_RUN_S:
                skipped = f"about {foreseen_s:.0f} s a run"
                results[name] = LayerResult(None, None, skipped)
                continue
            results[name] = result = _measure_layer(layer, layers, input_.patches)
            if result.timing:
                patch_s[name] = result.timing.median_s / input_.patches
        measurement = Measurement(input_, dtype, **results)
        if (measurement.linear.max_over_bound or 0.0) > 1:
            raise CheckFailedError(
                f"the linear layer is wrong on this machine: {input_.name} in {dtype} is "
                f"{measurement.linear.max_over_bound:.3g} times its error bound",
                hint="try another torch build",
            )
        measurements.append(measurement)
    return measurements


def _measure_layer(layer: Callable[[Tensor], Tensor], layers: Layers, count: int) -> LayerResult:
    device = layers.weight.device
    distinct = layers.random_patches(min(count, _DISTINCT_PATCHES))

    def run() -> Tensor:
        output = layer(patches)
        wait_for(device)
        return output

    try:
        patches = distinct.repeat(math.ceil(count / len(distinct)), 1)[:count]
        wait_for(device)
        start = time.perf_counter()
        output = run()
        first_s = time.perf_counter() - start
        ratio = _largest_over_bound(output, distinct, layers)
        del output  # a large one would stand beside the next
        return LayerResult(time_call(run, first_s=first_s, budget_s=_BUDGET_S), ratio)
    except torch.cuda.OutOfMemoryError:
        return LayerResult(None, None, f"not enough memory on {device}")


def _largest_over_bound(output: Tensor, distinct: Tensor, layers: Layers) -> float:
    """Return the largest error over bound of an output `[N, O]` whose patches repeat `distinct`.

    Of the rows that belong to one patch, the highest and the lowest value of each element say it
    all: float64 has to compute the distinct patches only.
    """
    count = len(distinct)
    highest, lowest = output[:count].clone(), output[:count].clone()
    for rows in output[count:].split(count):
        highest[: len(rows)] = torch.maximum(highest[: len(rows)], rows)
        lowest[: len(rows)] = torch.minimum(lowest[: len(rows)], rows)
    kernel, patches = layers.kernel.cpu(), distinct.cpu()
    bias64 = kernel.new_zeros(len(kernel)) if layers.bias is None else layers.bias.cpu()
    return max(
        largest_error(extreme.cpu(), patches, kernel, bias64.double())[1]
        for extreme in (highest, lowest)
    )


def _find_wrong_conv3d(
    measurements: list[Measurement], environment: Environment
) -> tuple[str, ...]:
    """Name, for each dtype, the input on which Conv3d exceeds its bound the most."""
    worst: dict[str, tuple[float, str]] = {}
    for measurement in measurements:
        found = (measurement.conv3d.max_over_bound or 0.0, measurement.input.name)
        worst[measurement.dtype] = max(worst.get(measurement.dtype, found), found)
    return tuple(
        f"Conv3d is wrong on this machine: {name} in {dtype} is {ratio:.3g} times its error bound "
        f"({environment.versions})"
        for dtype, (ratio, name) in worst.items()
        if ratio > 1
    )
