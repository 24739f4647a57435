"""What `bench` measures, in time and in error, and what it warns of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from conv2linear.errors import CheckFailedError, Conv2LinearError
from conv2linear.operations.bench.bench import bench
from conv2linear.operations.bench.inputs import BenchLimits
from conv2linear.operations.bench.measure import DTYPES
from tests.operations.bench.conftest import Plant
from tests.support.checkpoints import BIAS, WEIGHT
from tests.support.models import TinyModel
from tests.support.progress import SeenProgress


def test_bench_measures_both_layers_in_each_dtype(limits: BenchLimits) -> None:
    result = bench(device="cpu", limits=limits)
    assert result.kernel_shape == (1536, 3, 2, 14, 14)
    assert result.environment.torch == torch.__version__
    assert [(p.dtype, p.input.patches) for p in result.measurements] == [
        (dtype, patches) for dtype in DTYPES for patches in (64, 484)
    ]
    for measurement in result.measurements:
        for layer in (measurement.conv3d, measurement.linear):
            assert layer.timing
            assert 0 < layer.timing.lower_quartile_s <= layer.timing.median_s
            assert layer.timing.median_s <= layer.timing.upper_quartile_s
            assert layer.max_over_bound is not None
            assert 0 < layer.max_over_bound <= 1
        assert measurement.conv3d.timing
        assert measurement.linear.timing
        assert (
            measurement.speedup
            == measurement.conv3d.timing.median_s / measurement.linear.timing.median_s
        )
    assert result.warnings == ()


def test_a_result_is_data_for_json(limits: BenchLimits) -> None:
    result = bench(device="cpu", dtype="fp16", limits=limits)
    values = result.to_dict()
    assert list(values) == [
        "source",
        "kernel_shape",
        "environment",
        "threads",
        "measurements",
        "tower",
        "warnings",
    ]
    first = values["measurements"][0]
    assert list(first) == ["input", "dtype", "conv3d", "linear", "speedup"]
    assert first["input"] == {
        "name": "112²",
        "frames": 1,
        "height": 112,
        "width": 112,
        "patches": 64,
    }
    assert list(first["linear"]) == ["timing", "max_over_bound", "skipped"]
    assert first["speedup"] == result.measurements[0].speedup


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_bench_reports_a_conv3d_that_is_wrong_in_one_element(
    limits: BenchLimits, plant: Plant, value: float
) -> None:
    plant("conv3d", value)
    progress = SeenProgress()
    result = bench(device="cpu", dtype="bf16", limits=limits, progress=progress)
    (warning,) = result.warnings
    assert "Conv3d is wrong on this machine: 308² in bf16" in warning
    assert torch.__version__ in warning
    assert progress.warnings == [warning]
    assert progress.moved_bytes == 0
    assert progress.counted == {"measure bf16": (2, 2, "inputs")}
    right, wrong = result.measurements
    assert right.conv3d.max_over_bound is not None
    assert wrong.conv3d.max_over_bound is not None
    assert right.conv3d.max_over_bound <= 1 < wrong.conv3d.max_over_bound


def test_bench_fails_where_the_linear_layer_is_wrong(limits: BenchLimits, plant: Plant) -> None:
    plant("linear", 1.0)
    with pytest.raises(CheckFailedError, match="linear layer is wrong on this machine: 308²"):
        bench(device="cpu", dtype="bf16", limits=limits)


def test_an_input_that_would_take_too_long_is_left_out(limits: BenchLimits) -> None:
    impatient = replace(limits, longest_run_s=0.0)
    first, second = bench(device="cpu", dtype="bf16", limits=impatient).measurements
    assert first.conv3d.timing
    assert first.linear.timing
    assert second.conv3d.timing is None
    assert second.conv3d.skipped
    assert "s a run" in second.conv3d.skipped
    assert second.speedup is None


@pytest.mark.parametrize("as_given", [str, Path])
def test_bench_takes_the_layer_of_the_checkpoint(
    limits: BenchLimits,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    as_given: Callable[[Path], str | Path],
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    sound = functional.conv3d

    def spy(
        patches: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        seen.append((kernel, bias))
        return sound(patches, kernel, bias, **options)

    monkeypatch.setattr(functional, "conv3d", spy)
    folder = tiny_model(patch_size=16, temporal_patch_size=1)
    without_tower = replace(limits, tower_side=None)
    result = bench(as_given(folder), device="cpu", dtype="bf16", limits=without_tower)
    assert result.kernel_shape == (128, 3, 1, 16, 16)
    tensors: dict[str, torch.Tensor] = {}
    for shard in folder.glob("*.safetensors"):
        tensors |= load_file(shard)
    kernel, bias = seen[0]
    assert torch.equal(kernel, tensors[WEIGHT])
    assert torch.equal(bias, tensors[BIAS])


@pytest.mark.parametrize(
    ("options", "words"), [({"dtype": "fp8"}, "fp8"), ({"device": "tpu"}, "tpu")]
)
def test_bench_refuses_what_it_does_not_know(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Conv2LinearError, match=words) as raised:
        bench(**options)
    assert raised.value.hint
