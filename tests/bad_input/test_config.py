"""A config.json that is wrong or not safe is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import WEIGHT
from tests.support.damage import (
    edit_json,
)
from tests.support.processes import Refuse, RunCli


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b'{"model_type": "glm4v"', "not valid JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"{}", "no model_type"),
        (b'{"model_type": null}', "no model_type"),
        (b'{"model_type": "llama"}', "'llama' is not supported"),
        (b'{"model_type": "\\ud800"}', "is not supported"),
        (b'{"model_type": "glm4v", "model_type": "glm4v"}', "duplicate key"),
        (b'{"model_type": "glm4v"}', "vision_config is missing"),
        (b'{"model_type": "glm4v", "vision_config": []}', "not an object"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (b'{"model_type": "glm4v", "x": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a_text_that_is_not_a_config(
    checkpoint: Path, refuse: Refuse, text: bytes, words: str
) -> None:
    (checkpoint / "config.json").write_bytes(text)
    refuse("config.json", words)


def test_no_config(checkpoint: Path, refuse: Refuse) -> None:
    (checkpoint / "config.json").unlink()
    refuse("no config.json")


@pytest.mark.parametrize("key", ["hidden_size", "in_channels", "temporal_patch_size", "patch_size"])
@pytest.mark.parametrize("value", [0, -14, 14.0, "14", None, True, [14]])
def test_a_size_in_the_config_that_is_not_a_size(
    checkpoint: Path, refuse: Refuse, key: str, value: Any
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c["vision_config"].update({key: value}))
    refuse("config.json", f"vision_config.{key}", "positive integer")


@pytest.mark.parametrize("key", ["hidden_size", "in_channels", "temporal_patch_size", "patch_size"])
def test_a_geometry_that_disagrees_with_the_config(
    checkpoint: Path, refuse: Refuse, key: str
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c["vision_config"].update({key: 16}))
    refuse(WEIGHT, "[128, 3, 2, 14, 14]", "config.json says")


@pytest.mark.parametrize("fusion", [1, [], "on"])
def test_a_fusion_config_that_is_not_an_object(
    checkpoint: Path, refuse: Refuse, fusion: Any
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c.update(fusion_config=fusion))
    refuse("fusion_config is not an object")


@pytest.mark.parametrize(
    ("quantization", "words"),
    [
        ({"quant_method": "fp8"}, "no list of modules to skip"),
        ({"quant_method": "bitsandbytes", "llm_int8_skip_modules": []}, "no list of modules"),
        ({"quant_method": "awq"}, "awq without modules_to_not_convert"),
        ({"quant_method": "hqq"}, "'hqq'"),
        ({"bits": 4}, "no quant_method"),
        ([], "not an object"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "not a list of names"),
        ({"quant_method": "fp8", "modules_to_not_convert": [1]}, "not a list of names"),
    ],
)
def test_a_quantization_that_is_not_safe(
    checkpoint: Path, refuse: Refuse, quantization: Any, words: str
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c.update(quantization_config=quantization))
    refuse(words)


def test_an_entry_that_no_regex_engine_would_finish(checkpoint: Path, run_cli: RunCli) -> None:
    quantization = {"quant_method": "fp8", "modules_to_not_convert": ["(.+)+x"]}
    edit_json(checkpoint / "config.json", lambda c: c.update(quantization_config=quantization))
    run_cli("inspect", checkpoint, timeout=30)  # does not hang, whatever it says
