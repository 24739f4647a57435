"""Measure both layers on each input: their time, and their error against its a-priori bound."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conv2linear.equivalence.device import first_line, is_out_of_memory, wait_for
from conv2linear.equivalence.error_bound import largest_error
from conv2linear.equivalence.layers import Layers, place_layers
from conv2linear.equivalence.patches import random_patches
from conv2linear.equivalence.timing import Timing, summarise, time_runs
from conv2linear.errors import CheckFailedError
from conv2linear.operations.bench.inputs import BenchInput, BenchLimits

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_DISTINCT_PATCHES = 256  # a larger input repeats them
_MAX_RUNS = 30
_SHORTEST_RUN_S = 2e-3  # of several calls if need be: the clock and waiting for a GPU cost little
_UNFORESEEN = 2.0  # times as long as was foreseen


@dataclass(frozen=True)
class LayerResult:
    """One layer on one input: its timing, or `skipped` says why there is none.

    `max_over_bound` is the largest error of any output element, as a fraction of its a-priori
    bound: above 1 the layer computes something else.
    """

    timing: Timing | None
    max_over_bound: float | None
    skipped: str | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether an output element exceeds its error bound."""
        return self.max_over_bound is not None and self.max_over_bound > 1


@dataclass(frozen=True)
class Measurement:
    """Both layers on one input in one dtype (bf16, fp16 or fp32)."""

    input: BenchInput
    dtype: str
    conv3d: LayerResult
    linear: LayerResult

    derived: ClassVar[tuple[str, ...]] = ("speedup",)

    @property
    def speedup(self) -> float | None:
        """How many times faster the linear layer is, by the medians; None if one was skipped."""
        if self.conv3d.timing is None or self.linear.timing is None:
            return None
        return self.conv3d.timing.median_s / self.linear.timing.median_s


def measure_inputs(
    kernel: Tensor,
    bias: Tensor | None,
    *,
    dtype: str,
    inputs: Iterable[BenchInput],
    device: torch.device,
    limits: BenchLimits,
    on_inputs: Callable[[int], object],
) -> list[Measurement]:
    """Measure the Conv3d of `kernel` `[O, C, T, P, P]` and the same map as a linear layer.

    `inputs` come in the order of their size; `on_inputs` is told of each that is measured. Raises
    `CheckFailedError` where the linear layer exceeds its error bound.
    """
    kernel = _convert(kernel, DTYPES[dtype])
    bias = None if bias is None else _convert(bias, DTYPES[dtype])
    layers = place_layers(Layers(kernel, kernel.flatten(1), bias, bias), device)
    conv3d, linear = _LayerMeter(layers, layers.conv3d), _LayerMeter(layers, layers.linear)
    measurements = []
    for input_ in inputs:
        measurement = Measurement(
            input_,
            dtype,
            conv3d=conv3d.measure(input_.patches, limits),
            linear=linear.measure(input_.patches, limits),
        )
        if measurement.linear.is_wrong:
            raise CheckFailedError(
                f"the linear layer is wrong on this machine: {input_.name} in {dtype} is "
                f"{measurement.linear.max_over_bound:.3g} times its error bound",
                hint="try another torch build",
            )
        measurements.append(measurement)
        on_inputs(1)
    return measurements


def _convert(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a dtype; what lies beyond its range becomes the largest number in it."""
    limits = torch.finfo(dtype)
    return tensor.to(dtype).clamp(limits.min, limits.max)


class _LayerMeter:
    """Measures one layer on larger and larger inputs, and foresees how long the next will take."""

    def __init__(self, layers: Layers, layer: Callable[[Tensor], Tensor]) -> None:
        self._layers, self._layer = layers, layer
        self._patch_s = 0.0  # on the input before

    def measure(self, count: int, limits: BenchLimits) -> LayerResult:
        """Measure the layer on `count` patches, unless that would take too long or too much."""
        foreseen_s = self._patch_s * count
        if foreseen_s > limits.longest_run_s:
            return LayerResult(None, None, f"about {foreseen_s:.0f} s a run")
        try:
            result = self._measure(count, limits.budget_s, foreseen_s=foreseen_s)
        except RuntimeError as error:  # of torch: memory is short, or there is no engine for it
            device = self._layers.weight.device
            reason = "not enough memory" if is_out_of_memory(error) else first_line(error)
            return LayerResult(None, None, f"{reason} on {device}")
        if result.timing:
            self._patch_s = result.timing.median_s / count
        return result

    def _measure(self, count: int, budget_s: float, *, foreseen_s: float) -> LayerResult:
        layers = self._layers
        distinct = random_patches(min(count, _DISTINCT_PATCHES), layers.weight, bias=layers.bias)
        patches = distinct.repeat(math.ceil(count / len(distinct)), 1)[:count]

        def wait() -> None:
            wait_for(patches.device)

        wait()
        start = time.perf_counter()
        output = self._layer(patches)
        wait()
        first_s = time.perf_counter() - start
        ratio = _largest_over_bound(output, distinct, self._layers)
        del output  # a large one would be in memory together with the next
        if budget_s <= first_s <= _UNFORESEEN * foreseen_s:
            return LayerResult(summarise([first_s]), ratio)
        return LayerResult(_time_within(budget_s, lambda: self._layer(patches), wait=wait), ratio)


def _time_within(
    budget_s: float, call: Callable[[], object], *, wait: Callable[[], object]
) -> Timing:
    """Time a call until `budget_s` seconds are spent, and once at least.

    It ran before, which took as long as it takes to choose a kernel and to load it. How many calls
    make a run is decided by the first one after that; it counts where it spends the budget alone.
    """
    warm = time_runs(call, runs=1, wait=wait)
    if warm.median_s >= budget_s:
        return warm
    calls_per_run = max(1, math.ceil(_SHORTEST_RUN_S / max(warm.median_s, 1e-6)))
    return time_runs(
        call, runs=_MAX_RUNS, calls_per_run=calls_per_run, budget_s=budget_s, wait=wait
    )


def _largest_over_bound(output: Tensor, distinct: Tensor, layers: Layers) -> float:
    """Return the largest error over bound of an output `[N, O]` whose patches repeat `distinct`.

    Among the rows that belong to one patch, the highest and the lowest value of each element have
    the largest error: float64 has to compute the distinct patches only.
    """
    count = len(distinct)
    highest, lowest = output[:count].clone(), output[:count].clone()
    for rows in output[count:].split(count):
        highest[: len(rows)] = torch.maximum(highest[: len(rows)], rows)
        lowest[: len(rows)] = torch.minimum(lowest[: len(rows)], rows)
    kernel, patches = layers.kernel.cpu(), distinct.cpu()
    bias = kernel.new_zeros(len(kernel)) if layers.bias is None else layers.bias.cpu()
    return max(
        largest_error(extreme.cpu(), patches, kernel=kernel, bias64=bias.double()).max_over_bound
        for extreme in (highest, lowest)
    )
