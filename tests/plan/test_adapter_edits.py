"""Edit an adapter's config so that PEFT finds the layer where its tensors are named for."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from conv2linear.checkpoint.adapter.config import AdapterConfig, parse_adapter_config
from conv2linear.checkpoint.adapter.layer import find_layer_tensors
from conv2linear.checkpoint.header import TensorInfo
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import Conv2LinearError
from conv2linear.plan.adapter_edits import LINEAR_ONLY_VARIANTS, move_adapter_config
from tests.support.adapters import (
    KERNEL,
    LAYER,
    OUTPUTS,
    Shapes,
    config_values,
    conv3d_shapes,
    linear_shapes,
)

CONV3D = "model.visual.patch_embed.proj"
LINEAR = "model.visual.patch_embed.linear_proj"
ADAPTED = [CONV3D, "model.visual.blocks.0.attn.qkv", "model.layers.0.q_proj"]


def move(
    values: dict[str, Any], shapes: Shapes | None = None, to: Layout = Layout.LINEAR
) -> AdapterConfig:
    config = parse_adapter_config(json.dumps(config_values(**values), indent=2))
    infos = {
        name: TensorInfo("F32", shape, (0, 0))
        for name, shape in (conv3d_shapes() if shapes is None else shapes).items()
    }
    tensors = find_layer_tensors(infos, config.peft_type)
    return move_adapter_config(config, tensors, to, adapted=ADAPTED)


def targets(config: AdapterConfig, module: str) -> bool:
    """Ask PEFT itself."""
    names = {field.name for field in dataclasses.fields(LoraConfig) if field.init}
    values = {name: value for name, value in config.values.items() if name in names}
    return bool(check_target_module_exists(LoraConfig(**values), module))


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": ["qkv", "proj"]},
        {"target_modules": ["qkv", "patch_embed.proj"]},
        {"target_modules": [CONV3D, "model.visual.blocks.0.attn.proj"]},
        {"target_modules": [CONV3D], "layers_to_transform": [0]},
        {"target_modules": r".*\.(qkv|proj)"},
        {"target_modules": r"(?i).*PATCH_EMBED\.proj|.*qkv"},
        {"target_modules": r".*patch_embed\.proj|(?:.*?a.*?b.*?c.*?d.*?e.*?f.*?g)"},
        {"target_modules": ["proj", "qkv"], "exclude_modules": ["merger.proj"]},
        {"target_modules": r".*proj", "exclude_modules": r".*merger\.proj"},
    ],
    ids=str,
)
def test_peft_puts_the_lora_on_the_linear_layer_and_else_where_it_was(
    values: dict[str, Any],
) -> None:
    config = move(values)
    assert targets(config, LINEAR)
    before = parse_adapter_config(json.dumps(config_values(**values)))
    for module in ("model.visual.blocks.0.attn.proj", "model.visual.merger.proj", "model.qkv"):
        assert targets(config, module) == targets(before, module)


def test_an_entry_that_means_the_layer_alone_is_renamed_and_others_stay() -> None:
    assert move({"target_modules": [CONV3D, "qkv"]}).values["target_modules"] == [LINEAR, "qkv"]
    found = move({"target_modules": ["proj", "qkv"]}).values["target_modules"]
    assert found == ["proj", "qkv", "patch_embed.linear_proj"]


def test_a_config_that_fits_stays_byte_for_byte() -> None:
    values = {"target_modules": r".*(proj|qkv)", "rank_pattern": {"q_proj": 16}}
    assert move(values).text == json.dumps(config_values(**values), indent=2)
    listed = {"target_modules": ["qkv", "proj"]}
    assert move(listed, {}).text == json.dumps(config_values(**listed), indent=2)


@pytest.mark.parametrize("target", ["all-linear", r".*(?:proj|qkv)"])
def test_a_layer_that_the_adapter_has_nothing_of_is_excluded(target: str) -> None:
    config = move({"target_modules": target}, {})
    assert config.values["exclude_modules"] == ["patch_embed.linear_proj"]
    assert not targets(config, LINEAR)
    config = move({"target_modules": target, "exclude_modules": "lm_head"}, {})
    assert config.values["exclude_modules"] == r"lm_head|(?:.*\.)?patch_embed\.linear_proj"


@pytest.mark.parametrize(
    "patterns",
    [
        {"rank_pattern": {"proj": 6}, "alpha_pattern": {"proj": 3}},
        {"rank_pattern": {"patch_embed.proj": 6, "qkv": 2}, "alpha_pattern": {CONV3D: 3}},
        {
            "rank_pattern": {"linear_proj": 9, r".*\.proj": 6},
            "alpha_pattern": {r"linear_.*": 5, r"^model.*embed\.proj": 3},
        },
    ],
    ids=str,
)
def test_rank_and_alpha_of_the_layer_stay(patterns: dict[str, dict[str, int]]) -> None:
    values = move(patterns, conv3d_shapes(rank=6)).values
    for field, expected in (("rank_pattern", 6), ("alpha_pattern", 3)):
        pattern = values[field]
        assert pattern[get_pattern_key(list(pattern), LINEAR)] == expected
        assert set(patterns[field]) - {"patch_embed.proj", CONV3D} <= set(pattern)


@pytest.mark.parametrize("names", [["patch_embed.proj"], [CONV3D, "lm_head"]])
def test_a_full_copy_is_named_as_the_layer_is(names: list[str]) -> None:
    copies: Shapes = {f"{LAYER}.weight": (OUTPUTS, *KERNEL), f"{LAYER}.bias": (OUTPUTS,)}
    values = move({"target_modules": ["qkv"], "modules_to_save": names}, copies).values
    assert values["modules_to_save"][0].endswith("patch_embed.linear_proj")
    assert values["modules_to_save"][1:] == names[1:]
    whole = {"target_modules": ["qkv"], "modules_to_save": ["patch_embed"]}
    assert move(whole, copies).values["modules_to_save"] == ["patch_embed"]


def test_back_on_a_conv3d_all_linear_becomes_the_modules_that_have_weights() -> None:
    adapted = {"target_modules": "all-linear"}
    config = parse_adapter_config(json.dumps(config_values(**adapted)))
    infos = {name: TensorInfo("F32", s, (0, 0)) for name, s in linear_shapes().items()}
    tensors = find_layer_tensors(infos, "LORA")
    moved = move_adapter_config(config, tensors, Layout.CONV3D, adapted=[LINEAR, "model.lm.q"])
    assert moved.values["target_modules"] == ["model.lm.q", CONV3D]
    listed = move({"target_modules": ["qkv", "linear_proj"]}, linear_shapes(), Layout.CONV3D)
    assert targets(listed, CONV3D)


def test_every_variant_that_peft_has_for_linear_layers_alone_is_known() -> None:
    variants = {f.name for f in dataclasses.fields(LoraConfig) if f.metadata.get("is_lora_variant")}
    assert variants - {"use_dora"} <= set(LINEAR_ONLY_VARIANTS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(({name: [1]}, name) for name in LINEAR_ONLY_VARIANTS),
        *(({"init_lora_weights": name}, name) for name in ("pissa", "olora", "loftq", "lora_ga")),
        ({"exclude_modules": ["linear_proj"]}, "exclude_modules"),
        ({"exclude_modules": "("}, "exclude_modules"),
        ({"modules_to_save": ["linear_proj"]}, "modules_to_save"),
        ({"target_modules": "(?x)proj # ours"}, "comments"),
        ({"target_modules": "(proj"}, "not a valid pattern"),
        ({"alpha_pattern": {"(x*)*": 1}}, "alpha_pattern"),
    ],
    ids=str,
)
def test_what_peft_does_not_do_the_same_way_is_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(Conv2LinearError, match=message) as error:
        move(values)
    assert error.value.exit_code == 2
