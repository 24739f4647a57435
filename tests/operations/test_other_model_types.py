"""Model types beyond GLM are in the table only if they pass what GLM passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conv2linear import convert, inspect_checkpoint
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.errors import UnsupportedCheckpointError
from tests.support.load_in_transformers import load, logits_of
from tests.support.models import GLM_TYPES, OTHER_TYPES, save_model


def test_every_row_of_the_table_is_tested_with_a_real_model() -> None:
    assert set(MODEL_TYPES) == {*GLM_TYPES, *OTHER_TYPES}


@pytest.mark.parametrize("model_type", OTHER_TYPES)
def test_another_model_type_loads_in_stock_transformers_with_equal_outputs(
    model_type: str, tmp_path: Path
) -> None:
    source = save_model(tmp_path / "source", model_type)
    convert(source, tmp_path / "linear", device="cpu")
    before = logits_of(source)
    after = load(tmp_path / "linear", tmp_path / "after")
    assert (after.missing, after.unexpected, after.mismatched) == ([], [], [])
    assert after.patch_embedding_class.startswith("Fused")
    assert after.projection_class == "torch.nn.modules.linear.Linear"
    assert after.projection_is_the_file
    scale = before.abs().max().item()
    assert scale > 0
    torch.testing.assert_close(after.logits, before, rtol=0, atol=scale * 2**-6)


def test_qwen2_vl_is_refused_since_transformers_would_leave_its_layer_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_model(tmp_path / "source", "qwen2_vl")
    with pytest.raises(UnsupportedCheckpointError, match="qwen2_vl"):
        inspect_checkpoint(source)
    # The day this fails, transformers has mended it, and the type can get its row.
    from conv2linear.checkpoint.model_types import ModelType

    monkeypatch.setitem(
        MODEL_TYPES, "qwen2_vl", ModelType("qwen2_vl", embed_dim=1280, has_bias=False)
    )
    convert(source, tmp_path / "linear", device="cpu")
    assert load(tmp_path / "linear", tmp_path / "after").missing
