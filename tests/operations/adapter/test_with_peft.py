"""PEFT on the linear base gives with a moved adapter what it gave on the original pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from conv2linear import convert, restore
from tests.support.load_with_peft import load_pair
from tests.support.make_adapter import make_adapter
from tests.support.models import TinyModel

CLOSE = 1e-5
FLOAT = {"dtype": torch.float32, "max_shard_size": "1GB"}
CASES = {
    "a list of targets, bias, patterns and another scale": {
        "r": 4,
        "target_modules": ["qkv", "proj"],
        "rank_pattern": {"patch_embed.proj": 6},
        "alpha_pattern": {"patch_embed.proj": 3},
        "use_rslora": True,
        "bias": "all",
    },
    "DoRA": {"r": 4, "target_modules": r".*patch_embed\.proj|.*qkv", "use_dora": True},
    "a bias of the LoRA": {
        "r": 4,
        "target_modules": ["patch_embed.proj", "qkv"],  # of the first alone PEFT would find nothing
        "lora_bias": True,
    },
    "a full copy": {"target_modules": ["qkv"], "modules_to_save": ["patch_embed.proj"]},
    "a full copy of more": {"target_modules": ["qkv"], "modules_to_save": ["patch_embed"]},
}
SLOW = [pytest.param(values, id=name, marks=pytest.mark.slow) for name, values in CASES.items()]


@pytest.fixture(scope="module")
def linear_base(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(tiny_model("glm4v", **FLOAT), tmp_path_factory.mktemp("base") / "linear").out


def compare(base: Path, adapter: Path, linear: Path, moved: Path, scratch: Path) -> None:
    """Check that both pairs give the same logits, and the adapter as it was others."""
    original = load_pair(base, adapter, scratch / "1.safetensors")
    found = load_pair(linear, moved, scratch / "2.safetensors")
    assert found.ignored == original.ignored == []
    assert (found.logits - original.logits).abs().max() < CLOSE
    assert _without_layout(found.adapted) == _without_layout(original.adapted)
    unmoved = load_pair(linear, adapter, scratch / "3.safetensors")
    assert any("patch_embed" in name for name in unmoved.ignored)
    assert (unmoved.logits - original.logits).abs().max() > 100 * CLOSE


def _without_layout(names: list[str]) -> set[str]:
    return {name.replace("patch_embed.linear_proj", "patch_embed.proj") for name in names}


def test_a_moved_adapter_does_on_the_linear_base_what_it_did(
    tiny_model: TinyModel, linear_base: Path, tmp_path: Path
) -> None:
    base = tiny_model("glm4v", **FLOAT)
    adapter = make_adapter(base, tmp_path / "adapter", r=4, target_modules=["qkv", "proj"])
    convert(adapter, tmp_path / "moved")
    compare(base, adapter, linear_base, tmp_path / "moved", tmp_path)


@pytest.mark.parametrize("config", SLOW)
def test_so_does_one_of_every_kind(
    tiny_model: TinyModel, linear_base: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    base = tiny_model("glm4v", **FLOAT)
    adapter = make_adapter(base, tmp_path / "adapter", **config)
    convert(adapter, tmp_path / "moved")
    if "modules_to_save" in config:
        original = load_pair(base, adapter, tmp_path / "1.safetensors")
        found = load_pair(linear_base, tmp_path / "moved", tmp_path / "2.safetensors")
        assert found.ignored == []
        assert (found.logits - original.logits).abs().max() < CLOSE
    else:
        compare(base, adapter, linear_base, tmp_path / "moved", tmp_path)


def test_one_that_was_trained_on_the_linear_base_does_the_same_on_the_original(
    tiny_model: TinyModel, linear_base: Path, tmp_path: Path
) -> None:
    base = tiny_model("glm4v", **FLOAT)
    adapter = make_adapter(linear_base, tmp_path / "adapter", r=4, target_modules="all-linear")
    restore(adapter, tmp_path / "restored")
    compare(linear_base, adapter, base, tmp_path / "restored", tmp_path)
