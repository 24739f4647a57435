"""The vision tower is timed in both layouts, or skipped with a reason."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from conv2linear.operations.bench.bench import bench
from conv2linear.operations.bench.inputs import BenchLimits
from conv2linear.operations.bench.vision_tower import bench_tower
from conv2linear.operations.convert import convert
from tests.support.models import TinyModel
from tests.support.progress import SeenProgress

SHORT = BenchLimits(tower_side=8, tower_starts=1)


def test_bench_times_the_tower_of_a_folder_in_both_layouts(
    limits: BenchLimits, tiny_model: TinyModel
) -> None:
    once = replace(limits, tower_starts=1, tower_budget_s=600)
    tower = bench(tiny_model(), device="cpu", dtype="bf16", limits=once).tower
    assert tower
    assert tower.skipped is None
    assert tower.patches == 1024
    for timing in (tower.conv3d, tower.linear):
        assert timing
        assert timing.load.runs == timing.first.runs == 1
        assert 0 < timing.first.lower_quartile_s <= timing.first.upper_quartile_s
        assert timing.load.median_s > 0
        assert 1 <= timing.later.runs <= 10


def test_no_start_begins_that_would_not_end_within_the_budget(tiny_model: TinyModel) -> None:
    impatient = replace(SHORT, tower_starts=3, tower_budget_s=0)
    progress = SeenProgress()
    tower = bench_tower(
        tiny_model(), layout="conv3d", device="cpu", limits=impatient, progress=progress
    )
    assert progress.counted == {"measure the vision tower": (6, 6, "starts")}
    assert tower.conv3d
    assert tower.conv3d.first.runs == 1


def test_the_tower_is_left_out_where_the_limits_have_no_side(
    limits: BenchLimits, tiny_model: TinyModel
) -> None:
    without = replace(limits, tower_side=None)
    assert bench(tiny_model(), device="cpu", dtype="bf16", limits=without).tower is None


def test_the_tower_of_a_linear_checkpoint_has_no_conv3d_to_compare(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    convert(tiny_model(), tmp_path / "linear")
    tower = bench_tower(tmp_path / "linear", layout="linear", device="cpu", limits=SHORT)
    assert tower.linear
    assert tower.conv3d is None
    assert tower.skipped
    assert "linear" in tower.skipped


def test_the_tower_is_skipped_with_a_reason_where_a_weight_is_missing(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model(max_shard_size="1GB"), tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.visual.blocks.0.attn.qkv.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tower = bench_tower(folder, layout="conv3d", device="cpu", limits=SHORT)
    assert tower.conv3d is tower.linear is None
    assert tower.skipped
    assert "blocks.0.attn.qkv.weight" in tower.skipped


def test_the_tower_is_skipped_with_a_reason_without_transformers(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    tower = bench_tower(tiny_model(), layout="conv3d", device="cpu", limits=SHORT)
    assert tower.skipped == "transformers is not installed"
