"""What a quantised checkpoint needs and what is refused, as transformers reads its config."""

from __future__ import annotations

import json
from typing import Any

import pytest
from compressed_tensors.quantization import QuantizationConfig
from transformers.quantizers.quantizers_utils import should_convert_module

from conv2linear.checkpoint.config import ModelConfig, parse_config
from conv2linear.checkpoint.model_types import LINEAR_MODULE
from conv2linear.checkpoint.quantization.methods import METHODS, Choice
from conv2linear.checkpoint.quantization.quantization import read_quantization
from conv2linear.checkpoint.quantization.skip_list_edit import (
    LOOSE_ENTRY,
    REGEX_ENTRY,
    edit_skip_list,
    plan_skip_list,
)
from conv2linear.errors import BadCheckpointError
from tests.support.installed import need_transformers_of_the_tables

LISTED_METHODS = sorted(name for name, rules in METHODS.items() if rules.choice is Choice.LIST)
METHODS_WITHOUT_AWQ = [method for method in LISTED_METHODS if method != "awq"]


def config_of(quantization: Any, **values: Any) -> ModelConfig:
    """Return a config with a quantisation config; it stands last, as transformers writes it."""
    text = json.dumps({"model_type": "glm4v", **values, "quantization_config": quantization})
    return parse_config(text)


def quantized(method: str, names: Any = None, **values: Any) -> ModelConfig:
    """Return a config for a method, with a list of modules to skip if `names` is one."""
    listed = {} if names is None else {METHODS[method].list_fields[0]: names}
    return config_of({"quant_method": method, **listed, **values})


def compressed(ignore: Any, weights: Any) -> ModelConfig:
    """Return a config of compressed-tensors with one group of weights."""
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return quantized("compressed-tensors", ignore, config_groups=groups)


def convert_config(config: ModelConfig) -> tuple[dict[str, Any], str | None]:
    """Return the quantisation config after a conversion, and the refusal_reason of it."""
    edit = plan_skip_list(config, {})
    return edit_skip_list(config, edit).values["quantization_config"], edit.refusal_reason


def test_a_checkpoint_that_is_not_quantized_needs_nothing() -> None:
    config = parse_config('{"model_type": "glm4v"}')
    assert read_quantization(config) is None
    edit = plan_skip_list(config, {})
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
    edit = plan_skip_list(config, {})
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


INT4 = {"num_bits": 4, "type": "int"}
EXPERTS = [r"re:.*mlp\.experts\..*"]


@pytest.mark.parametrize(
    ("groups", "loads"),
    [
        ([(EXPERTS, FLOAT8), (["Linear"], INT4)], True),
        ([(EXPERTS, INT4), (["Linear"], FLOAT8)], False),
        ([(["Linear"], FLOAT8), (EXPERTS, INT4)], False),
        ([(["Linear"], FLOAT8), (["lm_head"], INT4)], True),
        ([(["lm_head"], INT4), (["Linear"], FLOAT8)], False),
        # Its targets miss the layer, and yet transformers 5.24 decompresses it by this scheme.
        ([(["re:.*language_model.*"], INT4)], False),
    ],
)
def test_the_group_by_which_transformers_decompresses_the_layer_decides(
    groups: list[tuple[list[str], Any]], loads: bool
) -> None:
    values = {str(n): {"targets": t, "weights": w} for n, (t, w) in enumerate(groups)}
    config = quantized("compressed-tensors", ["lm_head"], config_groups=values)
    assert (convert_config(config)[1] is None) == loads


def test_a_cache_scheme_alone_is_refused_for_what_it_is() -> None:
    values = {"config_groups": {}, "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    refusal_reason = convert_config(quantized("compressed-tensors", [], **values))[1]
    assert refusal_reason is not None
    assert "KV cache alone" in refusal_reason


def test_every_method_of_transformers_has_a_decision() -> None:
    need_transformers_of_the_tables()
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    names = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING}
    assert set(METHODS) == names


@pytest.mark.parametrize("flag", ["load_in_4bit", "load_in_8bit"])
def test_bitsandbytes_needs_no_name_of_a_method(flag: str) -> None:
    quantization = read_quantization(config_of({flag: True, "llm_int8_skip_modules": ["a"]}))
    assert quantization is not None
    assert quantization.method == "bitsandbytes"
    assert quantization.skip_list == ["a"]


@pytest.mark.parametrize(
    ("blocks", "safe"),
    [
        ("model.language_model.layers", True),
        ("model.language_model.layers,model.visual.blocks", True),
        (["model.language_model.layers", "visual.blocks"], True),
        ("model.visual", False),
        ("model.language_model.layers, visual.patch_embed", False),
        ("", False),
        (None, False),
        ([["model.language_model.layers.0"]], False),
    ],
)
def test_auto_round_takes_only_the_blocks_that_it_names(blocks: Any, safe: bool) -> None:
    config = config_of({"quant_method": "auto-round", "block_name_to_quantize": blocks})
    edit = plan_skip_list(config, {})
    assert (edit.refusal_reason is None) == safe
    assert edit_skip_list(config, edit).text == config.text


@pytest.mark.parametrize("method", LISTED_METHODS)
def test_a_list_that_does_not_cover_the_layer_gets_its_name(method: str) -> None:
    values, refusal_reason = convert_config(quantized(method, ["lm_head", "model.visual.merger"]))
    assert refusal_reason is None
    field = METHODS[method].list_fields[0]
    assert values[field] == ["lm_head", "model.visual.merger", LOOSE_ENTRY]
    assert not should_convert_module(LINEAR_MODULE, values[field])


@pytest.mark.parametrize("method", LISTED_METHODS)
@pytest.mark.parametrize("entry", ["model.visual", "visual.patch_embed.linear_proj", LINEAR_MODULE])
def test_a_list_that_covers_the_layer_is_left_as_it_is(method: str, entry: str) -> None:
    config = quantized(method, ["lm_head", entry])
    covered = not should_convert_module(LINEAR_MODULE, [entry])
    assert covered
    edit = plan_skip_list(config, {})
    assert edit.refusal_reason is None
    assert edit_skip_list(config, edit).text == config.text


@pytest.mark.parametrize("method", METHODS_WITHOUT_AWQ)
@pytest.mark.parametrize("names", [None, []])
def test_a_list_that_is_not_there_or_empty_is_dangerous_to_make(method: str, names: Any) -> None:
    values, refusal_reason = convert_config(quantized(method, names))
    assert refusal_reason is not None
    assert "lm_head" in refusal_reason
    assert values[METHODS[method].list_fields[0]] == ["lm_head", LOOSE_ENTRY]


@pytest.mark.parametrize("method", METHODS_WITHOUT_AWQ)
def test_a_list_that_is_null_is_dangerous_to_make(method: str) -> None:
    field = METHODS[method].list_fields[0]
    values, refusal_reason = convert_config(config_of({"quant_method": method, field: None}))
    assert refusal_reason is not None
    assert values[field] == ["lm_head", LOOSE_ENTRY]


@pytest.mark.parametrize(
    "names", [{}, {"modules_to_not_convert": None}, {"modules_to_not_convert": []}]
)
def test_awq_without_a_list_is_dangerous_and_its_list_is_never_made(names: dict[str, Any]) -> None:
    config = config_of({"quant_method": "awq", **names})
    edit = plan_skip_list(config, {})
    assert edit.refusal_reason is not None
    assert "vLLM" in edit.refusal_reason
    assert edit_skip_list(config, edit).text == config.text


@pytest.mark.parametrize("method", ["fp8", "mxfp8"])
def test_the_alias_of_fp8_is_used_only_where_the_first_field_is_absent(method: str) -> None:
    values, refusal_reason = convert_config(
        config_of({"quant_method": method, "ignored_layers": ["a"]})
    )
    assert refusal_reason is None
    assert values["ignored_layers"] == ["a", LOOSE_ENTRY]
    assert "modules_to_not_convert" not in values
    both = {"modules_to_not_convert": ["b"], "ignored_layers": ["a"]}
    values, _ = convert_config(config_of({"quant_method": method, **both}))
    assert values["modules_to_not_convert"] == ["b", LOOSE_ENTRY]
    assert values["ignored_layers"] == ["a"]


@pytest.mark.parametrize("method", ["gptq", "torchao", "gguf", "mxfp4"])
def test_a_method_that_is_not_affected_is_left_untouched(method: str) -> None:
    config = config_of({"quant_method": method, "modules_to_not_convert": [], "ignore": ["x"]})
    edit = plan_skip_list(config, {})
    assert edit.refusal_reason is None
    assert edit_skip_list(config, edit).text == config.text


@pytest.mark.parametrize(
    "method", ["quark", "fp_quant", "hqq", "nvfp4", "modelopt", "modelopt_fp4", "tomorrow's"]
)
def test_a_method_that_was_never_tried_is_dangerous_and_left_untouched(method: str) -> None:
    config = config_of({"quant_method": method, "modules_to_not_convert": ["x"]})
    edit = plan_skip_list(config, {})
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
    edited = edit_skip_list(config, plan_skip_list(config, {}))
    listed = edited.values["text_config"]["quantization_config"]["modules_to_not_convert"]
    assert listed == ["lm_head", LOOSE_ENTRY]
    assert edited.values["text_config"]["a"] == 1


def test_only_the_list_changes_in_the_text() -> None:
    text = (
        '{"model_type":"glm4v", "quantization_config":{"quant_method":"fp8",\n'
        '   "modules_to_not_convert" : [ "lm_head" ],"weight_block_size":[128, 128]}, "é":1.0e1}'
    )
    config = parse_config(text)
    edited = edit_skip_list(config, plan_skip_list(config, {}))
    assert edited.text == text.replace('"lm_head"', f'"lm_head", "{LOOSE_ENTRY}"')


@pytest.mark.parametrize("quantization", [[], "fp8", 1, True])
def test_a_quantization_config_that_is_not_an_object_is_refused(quantization: Any) -> None:
    with pytest.raises(BadCheckpointError, match="quantization_config is not an object"):
        read_quantization(config_of(quantization))


@pytest.mark.parametrize("names", ["lm_head", {"lm_head": 1}, [1], [None], 5])
def test_a_list_that_is_not_one_of_names_is_refused(names: Any) -> None:
    with pytest.raises(BadCheckpointError, match="is not a list of names"):
        plan_skip_list(quantized("fp8", names), {})
