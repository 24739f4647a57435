"""config.json is read strictly and changed in one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from conv2linear.checkpoint.config import enable_fusion, parse_config
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError
from tests.support.installed import need_model_type
from tests.support.models import GLM_TYPES, TinyModel


def text_of(**values: Any) -> str:
    return json.dumps({"model_type": "glm4v", "vision_config": {"hidden_size": 8}, **values})


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_size_that_is_left_out_is_what_transformers_takes_for_it(model_type: str) -> None:
    need_model_type(model_type)
    defaults = CONFIG_MAPPING[model_type]()
    text = defaults.text_config
    if getattr(text, "rope_parameters", None) == {}:  # no model can be made of these defaults
        rope = {"rope_type": "default", "rope_theta": 10000.0}
        text.rope_parameters = dict.fromkeys(set(text.layer_types), rope)
    if model_type == "qwen4_exp":  # nor of these
        text.indexer_n_heads, text.indexer_kv_heads, text.indexer_head_dim = 2, 1, 256
        text.indexer_budget, text.indexer_compress_ratio = 64, 4
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(defaults)
    parameters = dict(model.named_parameters())
    config = parse_config(text_of(model_type=model_type, vision_config={}))
    conv3d = f"{config.supported_type.vision_module}.patch_embed.proj"
    assert config.geometry.kernel_shape == tuple(parameters[f"{conv3d}.weight"].shape)
    assert config.supported_type.has_bias == (f"{conv3d}.bias" in parameters)


@pytest.mark.parametrize("model_type", GLM_TYPES)
def test_the_sizes_are_those_of_the_saved_config(tiny_model: TinyModel, model_type: str) -> None:
    text = (tiny_model(model_type) / "config.json").read_text()
    assert parse_config(text).geometry.kernel_shape == (128, 3, 2, 14, 14)
    assert parse_config(text).geometry.linear_shape == (128, 1176)


@pytest.mark.parametrize("key", ["hidden_size", "in_channels", "temporal_patch_size", "patch_size"])
@pytest.mark.parametrize("size", [0, -1, 1.0, True, None, "14", [14, 14]])
def test_a_size_that_is_not_a_positive_integer_is_refused(key: str, size: Any) -> None:
    config = parse_config(text_of(vision_config={key: size}))
    with pytest.raises(BadCheckpointError, match=rf"vision_config\.{key} is"):
        _ = config.geometry


@pytest.mark.parametrize(
    ("sizes", "is_allowed"),
    [
        ((4096, 4, 4, 32), True),  # as large as allowed, in K and in all
        ((4097, 4, 4, 32), False),
        ((1, 16384, 1, 1), True),
        ((1, 16385, 1, 1), False),
    ],
)
def test_a_layer_may_be_as_large_as_can_be_checked(
    sizes: tuple[int, ...], is_allowed: bool
) -> None:
    names = ("hidden_size", "in_channels", "temporal_patch_size", "patch_size")
    config = parse_config(text_of(vision_config=dict(zip(names, sizes, strict=True))))
    if is_allowed:
        assert config.geometry.kernel_shape == (*sizes, sizes[-1])
    else:
        with pytest.raises(UnsupportedCheckpointError, match="too large to be checked"):
            _ = config.geometry


@pytest.mark.parametrize("vision_config", [None, [], "x", 1])
def test_a_vision_config_that_is_not_an_object_is_refused(vision_config: Any) -> None:
    with pytest.raises(BadCheckpointError, match="vision_config is missing or not an object"):
        _ = parse_config(text_of(vision_config=vision_config)).geometry


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"model_type": 1}', "[" * 99_999])
def test_a_text_that_is_not_a_config_is_refused(text: str) -> None:
    with pytest.raises(BadCheckpointError, match=r"config\.json"):
        parse_config(text)


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(BadCheckpointError, match="duplicate key 'model_type'"):
        parse_config('{"model_type": "glm4v", "model_type": "glm46v"}')


def test_a_model_type_that_is_not_in_the_table_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnsupportedCheckpointError, match="'llama'") as caught:
        _ = parse_config(text_of(model_type="llama")).geometry
    assert caught.value.hint is not None
    assert all(model_type in caught.value.hint for model_type in MODEL_TYPES)


def test_transformers_reads_the_fusion_that_is_turned_on(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    config = enable_fusion(parse_config((tiny_model() / "config.json").read_text()))
    (tmp_path / "config.json").write_text(config.text)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.fusion_config == {"patch_embeddings": True}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '{"model_type":"glm4v"}',
            '{"model_type":"glm4v", "fusion_config": {"patch_embeddings": true}}',
        ),
        (
            '{"fusion_config":null,"model_type":"glm4v"}',
            '{"fusion_config":{"patch_embeddings": true},"model_type":"glm4v"}',
        ),
        (
            '{"fusion_config":{},"model_type":"glm4v"}',
            '{"fusion_config":{"patch_embeddings": true},"model_type":"glm4v"}',
        ),
        (
            '{"fusion_config":{"patch_embeddings":false,"x":1},"model_type":"glm4v"}',
            '{"fusion_config":{"patch_embeddings":true,"x":1},"model_type":"glm4v"}',
        ),
        (
            '{"fusion_config":{"x":1},"model_type":"glm4v"}',
            '{"fusion_config":{"x":1, "patch_embeddings": true},"model_type":"glm4v"}',
        ),
    ],
)
def test_fusion_is_merged_into_what_is_there(before: str, after: str) -> None:
    config = parse_config(before)
    assert not config.fusion_enabled
    enabled = enable_fusion(config)
    assert enabled.text == after
    assert enabled.fusion_enabled


@pytest.mark.parametrize("setting", [True, {}, {"option": 1}])
def test_fusion_that_is_on_stays_as_it_is_written(setting: Any) -> None:
    config = parse_config(text_of(fusion_config={"patch_embeddings": setting}))
    assert enable_fusion(config).text == config.text


@pytest.mark.parametrize("fusion", [1, [], "x", True])
def test_a_fusion_config_that_is_not_an_object_is_refused(fusion: Any) -> None:
    with pytest.raises(BadCheckpointError, match="fusion_config is not an object"):
        enable_fusion(parse_config(text_of(fusion_config=fusion)))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5), st.none() | st.integers() | st.text() | st.lists(st.text()), max_size=5
    ),
    st.booleans(),
    st.sampled_from([None, 1, 2, 4, "\t"]),
)
def test_keys_order_and_text_that_are_unknown_are_kept(
    unknown: dict[str, Any], ensure_ascii: bool, indent: Any
) -> None:
    values = {"说明": "模型 🙂", **unknown, "model_type": "glm4v"}
    text = json.dumps(values, ensure_ascii=ensure_ascii, indent=indent)
    edited = enable_fusion(parse_config(text)).text
    expected = {**values, "fusion_config": {"patch_embeddings": True}}
    assert list(json.loads(edited).items()) == list(expected.items())
    kept = text.rstrip("}\n")  # all in front of the closing brace
    assert edited.startswith(kept)
