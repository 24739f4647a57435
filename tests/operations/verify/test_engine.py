"""Loading with an engine: what it built is compared with the file; what cannot be is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert, verify
from conv2linear.checkpoint.model_types import MODEL_TYPES, ModelType
from conv2linear.errors import CheckFailedError, Conv2LinearError
from conv2linear.operations.verify.engine import (
    check_transformers,
    describe_loaded_layer,
    load_in_new_process,
    parse_engines,
)
from conv2linear.operations.verify.needs import NotAskedForError
from conv2linear.operations.verify.subject import Engine, open_subject
from tests.support.installed import need_transformers_of_the_tables
from tests.support.models import save_model

LOADED = {
    "module": "Linear",
    "is_linear": True,
    "missing": [],
    "mismatched": [],
    "dtype": "bfloat16",
    "shape": [128, 1176],
    "stored_dtype": "bfloat16",
    "values_equal": True,
    "outputs_equal": True,
}


def test_engines_are_known_by_name() -> None:
    assert parse_engines(None) == ()
    assert parse_engines("transformers") == (Engine.TRANSFORMERS,)


@pytest.mark.parametrize(
    "engines", ["sglang,vllm", "vllm, sglang,vllm", ["sglang", "vllm"], ("vllm,sglang", "vllm")]
)
def test_several_engines_are_named_in_any_way_and_run_once(engines: Any) -> None:
    assert parse_engines(engines) == (Engine.VLLM, Engine.SGLANG)


def test_an_unknown_engine_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(Conv2LinearError, match=r"engine 'llama\.cpp' is not known") as caught:
        verify(tmp_path / "nowhere", engine="llama.cpp")
    assert caught.value.hint == "known are transformers, vllm, sglang"


def test_what_transformers_built_is_described() -> None:
    assert describe_loaded_layer(LOADED) == (
        "builds nn.Linear bfloat16 [128, 1176] with the file's values and output"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"missing": ["patch_embed.proj.weight"]}, r"missing \['patch_embed.proj.weight'\]"),
        ({"mismatched": ["patch_embed.proj.weight"]}, "mismatched"),
        ({"module": "Conv3d", "is_linear": False}, "linear_proj is Conv3d, expected Linear"),
        ({"values_equal": False}, "its values are not those of the file"),
        ({"outputs_equal": False}, "its output is not that of the file's weight"),
    ],
)
def test_each_way_to_build_it_wrongly_fails(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckFailedError, match=message):
        describe_loaded_layer(LOADED | changed)


def test_an_engine_runs_only_if_it_is_asked_for(linear: Path) -> None:
    with pytest.raises(NotAskedForError):
        check_transformers(open_subject(linear))


def test_a_checkpoint_that_does_not_load_fails_with_the_last_line(linear: Path) -> None:
    (linear / "config.json").unlink()
    with pytest.raises(CheckFailedError, match="transformers does not load it: ") as caught:
        load_in_new_process(linear, [])
    assert "\n" not in str(caught.value)


def test_an_engine_that_leaves_the_layer_random_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers builds a linear layer for qwen2_vl and does not find its weight."""
    need_transformers_of_the_tables()
    monkeypatch.setitem(
        MODEL_TYPES, "qwen2_vl", ModelType("qwen2_vl", embed_dim=1280, has_bias=False)
    )
    convert(save_model(tmp_path / "source", "qwen2_vl"), tmp_path / "linear", device="cpu")
    verification = verify(tmp_path / "linear", engine="transformers", device="cpu")
    (check,) = verification.failed
    assert check.name == "engine transformers"
    assert "missing" in check.detail
    assert "its values are not those of the file" in check.detail
