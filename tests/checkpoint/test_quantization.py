"""What a quantised checkpoint needs and what is refused, as transformers reads its config."""

from __future__ import annotations

import json
from typing import Any

import pytest
from compressed_tensors.quantization import QuantizationConfig
from transformers.quantizers.quantizers_utils import should_convert_module

from conv2linear.checkpoint.config import ModelConfig, parse_config
from conv2linear.checkpoint.model_types import LINEAR_MODULE
from conv2linear.checkpoint.quantization import (
    SKIP_LIST_FIELDS,
    UNAFFECTED_METHODS,
    edit_skip_list,
    plan_skip_list,
    read_quantization,
)
from conv2linear.errors import BadCheckpointError

REGEX_ENTRY = r"re:.*patch_embed\.linear_proj$"
LISTED_METHODS = sorted(set(SKIP_LIST_FIELDS) - {"compressed-tensors"})
METHODS_WITHOUT_AWQ = [method for method in LISTED_METHODS if method != "awq"]


def config_of(quantization: Any, **values: Any) -> ModelConfig:
    """Return a config with a quantisation config; it stands last, as transformers writes it."""
    text = json.dumps({"model_type": "glm4v", **values, "quantization_config": quantization})
    return parse_config(text)


def quantized(method: str, names: Any = None, **values: Any) -> ModelConfig:
    """Return a config for a method, with a list of modules to skip if `names` is one."""
    listed = {} if names is None else {SKIP_LIST_FIELDS[method][0]: names}
    return config_of({"quant_method": method, **listed, **values})


def compressed(ignore: Any, weights: Any) -> ModelConfig:
    """Return a config of compressed-tensors with one group of weights."""
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return quantized("compressed-tensors", ignore, config_groups=groups)


def convert_config(config: ModelConfig) -> tuple[dict[str, Any], str | None]:
    """Return the quantisation config after a conversion, and the refusal_reason of it."""
    edit = plan_skip_list(read_quantization(config))
    return edit_skip_list(config, edit).values["quantization_config"], edit.refusal_reason


def test_a_checkpoint_that_is_not_quantized_needs_nothing() -> None:
    config = parse_config('{"model_type": "glm4v"}')
    assert read_quantization(config) is None
    edit = plan_skip_list(None)
    assert edit.refusal_reason is None
    assert edit_skip_list(config, edit).text == config.text


FLOAT8 = {"num_bits": 8, "type": "float"}


def test_float8_compressed_tensors_gets_the_name_and_the_regex() -> None:
    values, refusal_reason = convert_config(compressed(["lm_head", "re:.*gate$"], FLOAT8))
    assert refusal_reason is None
    assert values["ignore"] == ["lm_head", "re:.*gate$", LINEAR_MODULE, REGEX_ENTRY]
    assert QuantizationConfig.model_validate(values).ignore == values["ignore"]


@pytest.mark.parametrize("ignore", [None, []])
def test_float8_compressed_tensors_without_ignore_gets_a_list(ignore: Any) -> None:
    values, refusal_reason = convert_config(compressed(ignore, FLOAT8))
    assert refusal_reason is None
    assert values["ignore"] == [LINEAR_MODULE, REGEX_ENTRY]


def test_an_entry_that_is_there_is_not_added_again() -> None:
    values, _ = convert_config(compressed([LINEAR_MODULE, "lm_head"], FLOAT8))
    assert values["ignore"] == [LINEAR_MODULE, "lm_head", REGEX_ENTRY]
    config = compressed([REGEX_ENTRY, LINEAR_MODULE], FLOAT8)
    edit = plan_skip_list(read_quantization(config))
    assert edit_skip_list(config, edit).text == config.text


@pytest.mark.parametrize(
    "weights",
    [
        {"num_bits": 8, "type": "int"},
        {"num_bits": 4, "type": "int"},
        {"num_bits": 4, "type": "float"},
        {"num_bits": 8},
        None,
        [],
    ],
)
def test_compressed_tensors_other_than_float8_is_dangerous(weights: Any) -> None:
    values, refusal_reason = convert_config(compressed(["lm_head"], weights))
    assert refusal_reason is not None
    assert "5.21" in refusal_reason
    assert "5.23" in refusal_reason
    assert values["ignore"] == ["lm_head", LINEAR_MODULE, REGEX_ENTRY]


@pytest.mark.parametrize("groups", [None, {}, [], {"group_0": 1}])
def test_compressed_tensors_without_groups_is_dangerous(groups: Any) -> None:
    config = quantized("compressed-tensors", ["lm_head"], config_groups=groups)
    assert convert_config(config)[1] is not None


def test_one_group_that_is_not_float8_makes_compressed_tensors_dangerous() -> None:
    groups = {"a": {"weights": FLOAT8}, "b": {"weights": {"num_bits": 4, "type": "int"}}}
    config = quantized("compressed-tensors", ["lm_head"], config_groups=groups)
    assert convert_config(config)[1] is not None


@pytest.mark.parametrize("method", LISTED_METHODS)
def test_a_list_that_does_not_cover_the_layer_gets_its_name(method: str) -> None:
    values, refusal_reason = convert_config(quantized(method, ["lm_head", "model.visual.merger"]))
    assert refusal_reason is None
    field = SKIP_LIST_FIELDS[method][0]
    assert values[field] == ["lm_head", "model.visual.merger", LINEAR_MODULE]
    assert not should_convert_module(LINEAR_MODULE, values[field])


@pytest.mark.parametrize("method", LISTED_METHODS)
@pytest.mark.parametrize("entry", ["model.visual", "visual.patch_embed.linear_proj", LINEAR_MODULE])
def test_a_list_that_covers_the_layer_is_left_as_it_is(method: str, entry: str) -> None:
    config = quantized(method, ["lm_head", entry])
    covered = not should_convert_module(LINEAR_MODULE, [entry])
    assert covered
    edit = plan_skip_list(read_quantization(config))
    assert edit.refusal_reason is None
    assert edit_skip_list(config, edit).text == config.text


@pytest.mark.parametrize("method", METHODS_WITHOUT_AWQ)
@pytest.mark.parametrize("names", [None, []])
def test_a_list_that_is_not_there_or_empty_is_dangerous_to_make(method: str, names: Any) -> None:
    values, refusal_reason = convert_config(quantized(method, names))
    assert refusal_reason is not None
    assert "lm_head" in refusal_reason
    assert values[SKIP_LIST_FIELDS[method][0]] == ["lm_head", LINEAR_MODULE]


@pytest.mark.parametrize("method", METHODS_WITHOUT_AWQ)
def test_a_list_that_is_null_is_dangerous_to_make(method: str) -> None:
    field = SKIP_LIST_FIELDS[method][0]
    values, refusal_reason = convert_config(config_of({"quant_method": method, field: None}))
    assert refusal_reason is not None
    assert values[field] == ["lm_head", LINEAR_MODULE]


@pytest.mark.parametrize(
    "names", [{}, {"modules_to_not_convert": None}, {"modules_to_not_convert": []}]
)
def test_awq_without_a_list_is_dangerous_and_its_list_is_never_made(names: dict[str, Any]) -> None:
    config = config_of({"quant_method": "awq", **names})
    edit = plan_skip_list(read_quantization(config))
    assert edit.refusal_reason is not None
    assert "vLLM" in edit.refusal_reason
    assert edit_skip_list(config, edit).text == config.text


@pytest.mark.parametrize("method", ["fp8", "mxfp8"])
def test_the_alias_of_fp8_is_used_only_where_the_first_field_is_absent(method: str) -> None:
    values, refusal_reason = convert_config(
        config_of({"quant_method": method, "ignored_layers": ["a"]})
    )
    assert refusal_reason is None
    assert values["ignored_layers"] == ["a", LINEAR_MODULE]
    assert "modules_to_not_convert" not in values
    both = {"modules_to_not_convert": ["b"], "ignored_layers": ["a"]}
    values, _ = convert_config(config_of({"quant_method": method, **both}))
    assert values["modules_to_not_convert"] == ["b", LINEAR_MODULE]
    assert values["ignored_layers"] == ["a"]


@pytest.mark.parametrize("method", ["gptq", "torchao", "gguf", "mxfp4", "modelopt"])
def test_a_method_that_is_not_affected_is_left_untouched(method: str) -> None:
    assert method in UNAFFECTED_METHODS
    config = config_of({"quant_method": method, "modules_to_not_convert": [], "ignore": ["x"]})
    edit = plan_skip_list(read_quantization(config))
    assert edit.refusal_reason is None
    assert edit_skip_list(config, edit).text == config.text


@pytest.mark.parametrize("method", ["quark", "auto-round", "fp_quant", "hqq", "tomorrow's"])
def test_a_method_that_was_never_tried_is_dangerous_and_left_untouched(method: str) -> None:
    config = config_of({"quant_method": method, "modules_to_not_convert": ["x"]})
    edit = plan_skip_list(read_quantization(config))
    assert edit.refusal_reason is not None
    assert method in edit.refusal_reason
    assert edit_skip_list(config, edit).text == config.text


def test_a_quantization_without_a_method_is_dangerous() -> None:
    assert convert_config(config_of({"bits": 4}))[1] is not None


def test_a_quantization_config_inside_of_text_config_is_edited_there() -> None:
    inner = {"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]}
    config = parse_config(
        json.dumps({"model_type": "glm4v", "text_config": {"a": 1, "quantization_config": inner}})
    )
    edited = edit_skip_list(config, plan_skip_list(read_quantization(config)))
    listed = edited.values["text_config"]["quantization_config"]["modules_to_not_convert"]
    assert listed == ["lm_head", LINEAR_MODULE]
    assert edited.values["text_config"]["a"] == 1


def test_only_the_list_changes_in_the_text() -> None:
    text = (
        '{"model_type":"glm4v", "quantization_config":{"quant_method":"fp8",\n'
        '   "modules_to_not_convert" : [ "lm_head" ],"weight_block_size":[128, 128]}, "é":1.0e1}'
    )
    config = parse_config(text)
    edited = edit_skip_list(config, plan_skip_list(read_quantization(config)))
    assert edited.text == text.replace('"lm_head"', f'"lm_head", "{LINEAR_MODULE}"')


@pytest.mark.parametrize("quantization", [[], "fp8", 1, True])
def test_a_quantization_config_that_is_not_an_object_is_refused(quantization: Any) -> None:
    with pytest.raises(BadCheckpointError, match="quantization_config is not an object"):
        read_quantization(config_of(quantization))


@pytest.mark.parametrize("names", ["lm_head", {"lm_head": 1}, [1], [None], 5])
def test_a_list_that_is_not_one_of_names_is_refused(names: Any) -> None:
    with pytest.raises(BadCheckpointError, match="is not a list of names"):
        plan_skip_list(read_quantization(quantized("fp8", names)))
