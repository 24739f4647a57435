"""A converted checkpoint loads in stock transformers and gives the same logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear import convert
from tests.operations.cases import CASES
from tests.support.checkpoints import WEIGHT
from tests.support.contents import (
    shard_with,
)
from tests.support.damage import rename_tensors
from tests.support.load_in_transformers import Loaded, load, logits_of
from tests.support.models import TinyModel


def assert_loaded_whole(loaded: Loaded) -> None:
    """Check that transformers built the linear layer, and put the file's values into it."""
    assert loaded.missing == []
    assert loaded.unexpected == []
    assert loaded.mismatched == []
    assert loaded.errors == []
    assert loaded.patch_embedding_class.startswith("Fused")
    assert loaded.projection.endswith(".linear_proj")
    assert loaded.projection_class == "torch.nn.modules.linear.Linear"
    assert loaded.projection_is_the_file


def logits_tolerance(logits: torch.Tensor) -> float:
    """Allow a few roundings: both layers round their sums, in another order, before two blocks."""
    return 16 * torch.finfo(logits.dtype).eps * logits.abs().max().item()


def assert_same_logits(logits: torch.Tensor, expected: torch.Tensor) -> None:
    assert logits.dtype == expected.dtype
    assert expected.isfinite().all()
    difference = (logits.double() - expected.double()).abs().max().item()
    assert difference <= logits_tolerance(expected)


@pytest.mark.parametrize("case", CASES)
def test_stock_transformers_loads_the_result_and_gives_the_same_logits(
    tiny_model: TinyModel, out: Path, case: str
) -> None:
    source = tiny_model(**CASES[case])
    convert(source, out, device="cpu")
    loaded = load(out, out.parent / "result")
    assert_loaded_whole(loaded)
    assert_same_logits(loaded.logits, logits_of(source))


def test_transformers_loads_a_checkpoint_with_the_old_prefix(checkpoint: Path, out: Path) -> None:
    expected = logits_of(checkpoint)
    rename_tensors(checkpoint, lambda name: name.replace("model.visual.", "visual."))
    assert torch.equal(logits_of(checkpoint), expected)
    convert(checkpoint, out, device="cpu")
    loaded = load(out, out.parent / "result")
    assert_loaded_whole(loaded)
    assert_same_logits(loaded.logits, expected)


def test_the_logits_show_a_patch_embedding_in_a_wrong_layout(checkpoint: Path, out: Path) -> None:
    """The comparison above is worth something: its tolerance does not hide such a mistake."""
    convert(checkpoint, out, device="cpu")
    shard = shard_with(out)
    tensors = load_file(shard)
    kernel = tensors[WEIGHT].view(128, 3, 2, 14, 14)
    tensors[WEIGHT] = kernel.transpose(3, 4).flatten(1).contiguous()
    save_file(tensors, shard, metadata={"format": "pt"})
    loaded = load(out, out.parent / "result")
    assert_loaded_whole(loaded)
    with pytest.raises(AssertionError):
        assert_same_logits(loaded.logits, logits_of(checkpoint))


def test_without_the_skip_list_entry_the_float8_model_is_broken(
    tiny_model: TinyModel, out: Path
) -> None:
    """The entry is worth something: transformers quantises the layer without it."""
    convert(tiny_model("glm4v", quantized="float"), out, device="cpu")
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"]["ignore"] = ["lm_head"]
    (out / "config.json").write_text(json.dumps(config))
    loaded = load(out, out.parent / "result")
    assert not loaded.projection_is_the_file
