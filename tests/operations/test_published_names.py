"""What is published by another name than transformers saves it by is what its class loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert, restore, verify
from conv2linear.checkpoint.config import parse_config
from conv2linear.checkpoint.loaders import Loader
from conv2linear.checkpoint.model_types import MODEL_TYPES, PUBLISHED_NAMES
from conv2linear.errors import UnsupportedCheckpointError
from tests.support.contents import hashes
from tests.support.damage import edit_json
from tests.support.installed import need_model_type
from tests.support.models import save_model

VALUES: dict[str, Any] = {"model_type": "vlm", "architectures": ["HCXVisionV2ForCausalLM"]}


def publish(folder: Path, **values: Any) -> Path:
    """Save a tiny HyperCLOVAX with these values in the config, as the published ones have."""
    need_model_type("hyperclovax_vision_v2")
    save_model(folder, "hyperclovax_vision_v2")
    edit_json(folder / "config.json", lambda config: config.update(values))
    tower = {"model_type": "qwen2_5_vl"}
    edit_json(folder / "config.json", lambda config: config["vision_config"].update(tower))
    return folder


def test_a_name_stands_for_a_model_type_of_the_table_and_is_none_itself() -> None:
    assert PUBLISHED_NAMES.keys().isdisjoint(MODEL_TYPES)
    assert {row.model_type for row in PUBLISHED_NAMES.values()} <= MODEL_TYPES.keys()


def test_hyperclovax_as_published_converts_and_its_class_loads_it(
    tmp_path: Path, out: Path
) -> None:
    source = publish(tmp_path / "source", **VALUES)
    conversion = convert(source, out, device="cpu")
    (found,) = (each for each in conversion.compatibility if each.loader == Loader.TRANSFORMERS)
    assert found.model_class == "HyperCLOVAXVisionV2ForConditionalGeneration"
    assert f"by its class `{found.model_class}`" in (out / "README.md").read_text()
    verification = verify(out, source=source, engine="transformers", device="cpu")
    assert verification.passed, verification.failed
    restore(out, tmp_path / "restored")
    assert hashes(tmp_path / "restored") == hashes(source)


@pytest.mark.parametrize("architectures", [["Other"], [], None, "HCXVisionV2ForCausalLM", [7]])
def test_the_name_alone_does_not_tell_what_it_is(architectures: Any) -> None:
    config = parse_config(json.dumps(VALUES | {"architectures": architectures}))
    with pytest.raises(UnsupportedCheckpointError, match="model type 'vlm' is not supported"):
        _ = config.geometry
