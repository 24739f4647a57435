"""Model types that are refused on purpose, each with its own reason."""

from __future__ import annotations

import json

import pytest
from transformers.fusion_mapping import PatchEmbeddingsFusionSpec
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from conv2linear.checkpoint.config import parse_config
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.checkpoint.refused_types import REFUSED_TYPES, Evidence
from conv2linear.errors import UnsupportedCheckpointError
from tests.support.installed import need_transformers_of_the_tables
from tests.support.models import RANDOM_TYPES

NESTED_TYPES = ("qwen2_5_omni", "qwen3_omni_moe", "colqwen2")


@pytest.mark.parametrize("model_type", REFUSED_TYPES)
def test_a_refused_type_is_refused_in_one_line_with_its_reason_and_a_hint(
    model_type: str,
) -> None:
    config = parse_config(json.dumps({"model_type": model_type}))
    with pytest.raises(UnsupportedCheckpointError) as caught:
        _ = config.geometry
    message, hint = str(caught.value), caught.value.hint
    assert message.startswith(f"config.json: model type {model_type!r} is not supported: ")
    assert message.endswith(REFUSED_TYPES[model_type].refusal.reason)
    assert hint
    assert hint.startswith("leave it as it is: ")
    assert "\n" not in message + hint


def test_no_type_is_supported_and_refused() -> None:
    assert MODEL_TYPES.keys().isdisjoint(REFUSED_TYPES)


def test_every_refused_type_is_one_of_transformers() -> None:
    need_transformers_of_the_tables()
    assert [name for name in REFUSED_TYPES if name not in CONFIG_MAPPING] == []


def test_each_reason_of_a_fused_type_is_tested() -> None:
    fused = {name for name, row in REFUSED_TYPES.items() if row.refusal.is_fused}
    assert fused == {*RANDOM_TYPES, *NESTED_TYPES}
    assert {REFUSED_TYPES[name].evidence for name in fused} == {Evidence.RUN}


@pytest.mark.parametrize("model_type", NESTED_TYPES)
def test_transformers_cannot_turn_on_a_layer_whose_sizes_lie_deeper(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type]()
    with pytest.raises(AttributeError, match="no attribute 'patch_size'"):
        PatchEmbeddingsFusionSpec().make_transforms(config)
