"""Model types beyond GLM are in the table only if they pass what GLM passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from conv2linear import convert, inspect_checkpoint, restore, verify
from conv2linear.checkpoint.model_types import MODEL_TYPES, ModelType
from conv2linear.checkpoint.refused_types import REFUSED_TYPES
from conv2linear.engines.transformers import load_patch_embedding
from conv2linear.errors import UnsupportedCheckpointError
from conv2linear.operations.verify.engine import describe_loaded_layer
from tests.support import forks
from tests.support.checkpoints import INDEX
from tests.support.contents import read_files
from tests.support.installed import need_model_type, need_transformers_of_the_tables
from tests.support.load_in_transformers import load, logits_of
from tests.support.models import GLM_TYPES, OTHER_TYPES, RANDOM_TYPES, save_model


def load_layer(checkpoint: Path) -> dict[str, Any]:
    """Return what `verify --engine transformers` finds, by a fork in place of a new process."""
    shards = sorted(map(str, checkpoint.rglob("*.safetensors")))
    return forks.call(load_patch_embedding, str(checkpoint), shards)


def test_every_row_of_the_table_is_tested_with_a_real_model() -> None:
    assert set(MODEL_TYPES) == {*GLM_TYPES, *OTHER_TYPES}


@pytest.mark.parametrize("model_type", OTHER_TYPES)
def test_another_model_type_passes_what_a_glm_passes(model_type: str, tmp_path: Path) -> None:
    need_model_type(model_type)
    source, linear = save_model(tmp_path / "source", model_type), tmp_path / "linear"
    convert(source, linear, device="cpu")
    before = logits_of(source)
    after = load(linear, tmp_path / "after")
    assert (after.missing, after.unexpected, after.mismatched) == ([], [], [])
    assert after.patch_embedding_class.startswith("Fused")
    assert after.projection == MODEL_TYPES[model_type].linear_module
    assert after.projection_class == "torch.nn.modules.linear.Linear"
    assert after.projection_is_the_file
    scale = before.abs().max().item()
    assert scale > 0
    torch.testing.assert_close(after.logits, before, rtol=0, atol=scale * 2**-6)
    assert verify(linear, source=source, device="cpu").passed
    assert "with the file's values and output" in describe_loaded_layer(load_layer(linear))
    restore(linear, tmp_path / "restored")
    assert read_files(tmp_path / "restored") == read_files(source)


def test_cosmos3_converts_with_its_shards_in_sub_folders_as_it_is_published(
    tmp_path: Path,
) -> None:
    source, linear = save_model(tmp_path / "source", "cosmos3_omni"), tmp_path / "linear"
    index = json.loads((source / INDEX).read_text())
    for name in set(index["weight_map"].values()):
        moved = source / "vision_encoder" / name
        moved.parent.mkdir(exist_ok=True)
        (source / name).rename(moved)
    index["weight_map"] = {k: f"vision_encoder/{v}" for k, v in index["weight_map"].items()}
    (source / INDEX).write_text(json.dumps(index))
    assert inspect_checkpoint(source).embeddings[0].name == "patch_embed.proj.weight"
    convert(source, linear, device="cpu")
    after = load(linear, tmp_path / "after")
    assert (after.missing, after.unexpected, after.mismatched) == ([], [], [])
    assert after.projection_is_the_file
    assert "with the file's values and output" in describe_loaded_layer(load_layer(linear))


@pytest.mark.parametrize("model_type", RANDOM_TYPES)
def test_a_type_is_refused_whose_layer_transformers_would_leave_random(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_transformers_of_the_tables()
    source = save_model(tmp_path / "source", model_type)
    reason = REFUSED_TYPES[model_type].refusal.reason
    assert reason.endswith("leaves the layer random")
    with pytest.raises(UnsupportedCheckpointError, match=f"'{model_type}' is not .*{reason}"):
        inspect_checkpoint(source)
    # The day this fails, transformers has mended it, and the type can get its row.
    row = ModelType(model_type, embed_dim=1280, has_bias=False)
    monkeypatch.setitem(MODEL_TYPES, model_type, row)
    convert(source, tmp_path / "linear", device="cpu")
    built = load_layer(tmp_path / "linear")
    assert built["is_linear"]
    assert any(key.endswith("patch_embed.linear_proj.weight") for key in built["missing"])
    assert not built["values_equal"]
