"""Hold the rules of PEFT to PEFT's own functions."""

from __future__ import annotations

import time
from typing import Any

import pytest
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from conv2linear.checkpoint.adapter.matching import (
    is_all_linear,
    is_excluded,
    is_saved,
    is_targeted,
    pattern_value,
)

MODULES = (
    "model.visual.patch_embed.proj",
    "model.visual.patch_embed.linear_proj",
    "visual.patch_embed.linear_proj",
    "patch_embed.proj",
    "model.visual.blocks.0.attn.proj",
    "model.visual.blocks.1.attn.qkv",
)
CONFIGS: tuple[dict[str, Any], ...] = (
    {"target_modules": ["proj"]},
    {"target_modules": ["patch_embed.proj", "qkv"]},
    {"target_modules": ["model.visual.patch_embed.linear_proj"]},
    {"target_modules": r".*\.(proj|qkv)"},
    {"target_modules": r"model\.visual\.patch_embed\.linear_proj|.*qkv"},
    {"target_modules": r"^(?!.*patch_embed).*proj"},
    {"target_modules": ["proj", "linear_proj"], "exclude_modules": ["patch_embed.proj"]},
    {"target_modules": r".*proj", "exclude_modules": r".*patch_embed.*"},
    {"target_modules": ["proj"], "modules_to_save": ["patch_embed"]},
    {"target_modules": ["linear_proj", "proj"], "modules_to_save": ["proj"]},
    {
        "target_modules": ["proj", "qkv", "model.visual.patch_embed.proj"],
        "layers_to_transform": [1],
    },
)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_a_module_is_targeted_where_peft_targets_it(values: dict[str, Any], module: str) -> None:
    found = is_targeted(values, module, is_linear=True)
    if "layers_to_transform" in values and ".blocks." in module:
        assert found is None  # a numbered layer is not tried
    else:
        assert found is bool(check_target_module_exists(LoraConfig(**values), module))


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "pattern",
    [
        {"proj": 2, "linear_proj": 3},
        {r".*patch_embed\.linear_proj": 3, "linear_proj": 5},
        {"^model.visual.patch_embed.proj": 7, "proj": 2},
        {"^proj": 9},
        {},
    ],
    ids=str,
)
def test_the_pattern_counts_that_counts_for_peft(pattern: dict[str, int], module: str) -> None:
    expected = pattern.get(get_pattern_key(list(pattern), module), 8)
    assert pattern_value({"rank_pattern": pattern}, "rank_pattern", module, 8) == expected


def test_all_linear_means_linear_layers() -> None:
    values = {"target_modules": "All-Linear"}
    assert is_all_linear(values)
    assert is_targeted(values, MODULES[0], is_linear=False) is False
    assert is_targeted(values, MODULES[1], is_linear=True) is True


def test_a_copy_is_made_of_what_ends_so_and_of_all_within() -> None:
    assert is_saved({"modules_to_save": ["visual"]}, MODULES[1])
    assert is_saved({"modules_to_save": ["proj"]}, MODULES[1])  # PEFT asks for no dot
    assert not is_saved({"modules_to_save": ["patch_embed.proj"]}, MODULES[1])
    assert not is_saved({}, MODULES[1])


@pytest.mark.parametrize("pattern", [r"(a*)*b", r".*.*.*.*.*.*.*.*x", "(", r"(x+x+)+y"])
def test_a_pattern_that_may_take_for_ever_is_not_tried(pattern: str) -> None:
    begin, name = time.perf_counter(), "model." + "a" * 60
    assert is_targeted({"target_modules": pattern}, name, is_linear=True) is None
    assert is_excluded({"exclude_modules": pattern}, name) is None
    assert (
        is_targeted({"target_modules": ["a"], "exclude_modules": pattern}, name, is_linear=True)
        is None
    )
    assert pattern_value({"rank_pattern": {pattern: 1}}, "rank_pattern", name, 8) is None
    assert time.perf_counter() - begin < 5
