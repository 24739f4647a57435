"""`verify --source` calls nothing the source's that is not, and says what it did not compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from conv2linear import Verification, convert, verify
from tests.support.checkpoints import BIAS, MANIFEST, write_checkpoint
from tests.support.contents import other_shard, shard_with
from tests.support.damage import edit_header, edit_json, replace_header
from tests.support.models import TinyModel

SMALL = (32, 3, 2, 14, 14)


@pytest.fixture
def source(tiny_model: TinyModel) -> Path:
    return tiny_model()


@pytest.fixture
def linear(source: Path, tmp_path: Path) -> Path:
    convert(source, tmp_path / "linear", device="cpu")
    return tmp_path / "linear"


def found(verification: Verification, name: str) -> tuple[str, str]:
    check = next(check for check in verification.checks if check.name == name)
    return str(check.outcome), check.detail


def compare(linear: Path, source: Path) -> tuple[str, str]:
    return found(verify(linear, source=source, device="cpu"), "source")


def change_metadata(shard: Path) -> None:
    edit_header(shard, lambda header: header["__metadata__"].update(format="tf"))


@pytest.mark.parametrize("which", [shard_with, other_shard])
def test_the_metadata_of_a_shard_is_compared(
    which: Callable[[Path], Path], linear: Path, source: Path
) -> None:
    shard = which(linear)
    change_metadata(shard)
    outcome, detail = compare(linear, source)
    assert outcome == "fail"
    assert detail == f"{shard.name}: its __metadata__ is not the source's"


def test_a_header_that_is_written_differently_is_not_the_source_s(
    linear: Path, source: Path
) -> None:
    shard = other_shard(linear)
    replace_header(shard, lambda text: text.replace("{", "{ ", 1))
    detail = f"{shard.name}: its header is not what the source gives"
    assert compare(linear, source) == ("fail", detail)


def test_of_another_tool_s_output_is_said_what_differs(linear: Path, source: Path) -> None:
    (linear / MANIFEST).unlink()
    (linear / "README.md").write_text("a card of another tool")
    for path in linear.glob("*.safetensors"):
        save_file(load_file(path), path, metadata={"format": "pt", "tool": "another"})
    outcome, detail = compare(linear, source)
    assert outcome == "pass"
    shards = len(list(linear.glob("*.safetensors")))
    assert f"; {shards} headers written differently; {shards} with other __metadata__" in detail
    assert detail.endswith("README.md is not compared, as no record says how it was edited")


def test_a_card_that_was_left_alone_is_compared(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", kernel=SMALL, filler_bytes=100)
    linear = tmp_path / "linear"
    convert(source, linear, device="cpu", model_card=False)
    assert compare(linear, source)[0] == "pass"
    text = (linear / "README.md").read_text()
    (linear / "README.md").write_text(text.replace("mit", "gpl"))
    assert compare(linear, source) == ("fail", "README.md is not that of the source")
    (linear / "README.md").unlink()
    assert compare(linear, source) == ("fail", "README.md: the source has it")


@pytest.mark.parametrize("has_record", [True, False])
@pytest.mark.parametrize(
    ("before", "after"), [("1.0", "true"), ("1.0", "1"), ("0", "false"), ("0", "-0.0")]
)
def test_a_value_of_another_type_is_another_value(
    before: str, after: str, has_record: bool, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "source", kernel=SMALL, filler_bytes=100)
    edit_json(source / "config.json", lambda c: c["text_config"].update(scale="HERE"))
    text = (source / "config.json").read_text()
    (source / "config.json").write_text(text.replace('"HERE"', before))
    linear = tmp_path / "linear"
    convert(source, linear, device="cpu")
    if not has_record:
        (linear / MANIFEST).unlink()
    assert compare(linear, source)[0] == "pass"
    text = (linear / "config.json").read_text()
    (linear / "config.json").write_text(text.replace(f'"scale": {before}', f'"scale": {after}'))
    outcome, detail = compare(linear, source)
    assert (outcome, detail) == ("fail", "config.json: text_config is not what the source gives")


def test_the_text_of_the_config_is_compared_where_this_version_wrote_it(
    linear: Path, source: Path
) -> None:
    values = json.loads((linear / "config.json").read_text())
    (linear / "config.json").write_text(json.dumps(values))
    outcome, detail = compare(linear, source)
    assert (outcome, detail) == ("fail", "config.json: its text is not what the source gives")


def test_an_overlay_is_counted_for_what_it_has(tmp_path: Path) -> None:
    source = write_checkpoint(
        tmp_path / "source", kernel=SMALL, filler_bytes=100, weight_shard=1, bias_shard=0
    )
    overlay = tmp_path / "overlay"
    convert(source, overlay, device="cpu", changed_only=True)
    verification = verify(overlay, source=source, device="cpu")
    assert verification.passed, verification.failed
    outcome, detail = found(verification, "recorded tensors")
    assert outcome == "pass"
    assert detail.startswith("1 of 2 tensors and 1 header have the recorded SHA-256; ")
    assert f"{BIAS} lies in model-00001-of-00004.safetensors, which is not here" in detail
    assert "whose bias is not in this overlay" in found(verification, "layout")[1]
    assert "without bias" not in found(verification, "layout")[1]


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        ({"patch_embeddings": True, "experts": True}, "fusion_config.experts is not a fusion"),
        ({"patch_embeddings": True, "experts": False}, "fusion_config.experts is not a fusion"),
        ({"patch_embeddings": 1}, "fusion_config.patch_embeddings is neither"),
        ({"patch_embeddings": "true"}, "fusion_config.patch_embeddings is neither"),
        ({"patch_embeddings": None}, "fusion_config.patch_embeddings is neither"),
        ([], "fusion_config is not an object"),
    ],
)
def test_a_fusion_that_transformers_refuses_fails(fusion: Any, words: str, linear: Path) -> None:
    edit_json(linear / "config.json", lambda config: config.update(fusion_config=fusion))
    outcome, detail = found(verify(linear, device="cpu"), "config")
    assert outcome == "fail"
    assert words in detail


@pytest.mark.parametrize("fusion", [{"patch_embeddings": {}}, {"patch_embeddings": {"a": 1}}])
def test_options_of_a_fusion_are_right(fusion: Any, linear: Path) -> None:
    edit_json(linear / "config.json", lambda config: config.update(fusion_config=fusion))
    assert found(verify(linear, device="cpu"), "config")[0] == "pass"
