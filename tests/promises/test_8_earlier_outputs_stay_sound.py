"""A rule that changes in a later version does not condemn an earlier version's output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conv2linear import __version__, convert, verify
from tests.support.checkpoints import MANIFEST
from tests.support.damage import edit_json, identify_source_anew
from tests.support.models import TinyModel

Values = dict[str, Any]


@pytest.fixture
def source(tiny_model: TinyModel) -> Path:
    return tiny_model(quantized="float")


@pytest.fixture
def linear(source: Path, tmp_path: Path) -> Path:
    convert(source, tmp_path / "linear", device="cpu")
    return tmp_path / "linear"


def pretend_version(folder: Path, tool: str, **texts: str) -> None:
    """Make the output what another version would have written: these texts, and their hashes."""
    names = {"config": "config.json", "card": "README.md"}
    for each, text in texts.items():
        (folder / names[each]).write_text(text)

    def edit(manifest: Values) -> None:
        manifest["tool"] = tool
        for record in manifest["files"]:
            if record["name"] in names.values():
                content = (folder / record["name"]).read_bytes()
                record["size_bytes"] = len(content)
                record["sha256"] = hashlib.sha256(content).hexdigest()

    edit_json(folder / MANIFEST, edit)


def changed_config(folder: Path, change: Callable[[Values], object]) -> str:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    return json.dumps(config, indent=2)


def add_another_entry(config: Values) -> None:
    quantization = config["quantization_config"]
    (field,) = (name for name, value in quantization.items() if "linear_proj" in str(value))
    quantization[field] = [n for n in quantization[field] if "linear_proj" not in n]
    quantization[field].append("re:.*visual.*patch_embed.*")


def failed(linear: Path, **options: Any) -> set[str]:
    return {check.name for check in verify(linear, device="cpu", **options).failed}


def test_a_skip_list_with_the_entries_of_another_version_is_what_it_was(
    linear: Path, source: Path
) -> None:
    text = changed_config(linear, add_another_entry)
    pretend_version(linear, "0.0.1", config=text, card="# A card as that version wrote it\n")
    assert failed(linear, source=source, checksums=True) <= {"quantization"}


def test_by_this_version_s_own_rules_it_is_a_fault(linear: Path, source: Path) -> None:
    pretend_version(linear, __version__, config=changed_config(linear, add_another_entry))
    assert {"recorded edits", "source"} <= failed(linear, source=source)


def drop_an_entry(config: Values) -> None:
    config["quantization_config"]["ignore"].pop(0)


@pytest.mark.parametrize(
    "fault",
    [
        lambda config: config.update(image_token_id=7),
        lambda config: config.update(new=None),
        lambda config: config["quantization_config"].update(quant_method="another"),
        lambda config: config["text_config"].update(hidden_size=128.0),
        lambda config: config.update(fusion_config={"patch_embeddings": True, "other": True}),
        drop_an_entry,
    ],
    ids=["value", "null", "method", "type", "fusion", "dropped entry"],
)
def test_what_no_version_does_fails_whatever_the_record_says(
    fault: Callable[[Values], object], linear: Path, source: Path
) -> None:
    pretend_version(linear, "0.0.1", config=changed_config(linear, fault))
    assert {"recorded edits", "source"} <= failed(linear, source=source)


def test_a_card_of_another_version_has_the_hash_on_record(linear: Path) -> None:
    pretend_version(linear, "0.0.1", card="# A card as that version wrote it\n")
    assert failed(linear) == set()
    (linear / "README.md").write_text("# A card as another one wrote it\n")
    assert failed(linear) == {"recorded files"}


def test_an_edit_that_only_another_version_makes_is_said_to_be_unknown(linear: Path) -> None:
    pretend_version(linear, "9.9.9")

    def add_edit(manifest: Values) -> None:
        manifest["edits"].append({"name": "generation_config.json", "original": "{}"})

    edit_json(linear / MANIFEST, add_edit)
    identify_source_anew(linear)
    verification = verify(linear, device="cpu")
    detail = next(c.detail for c in verification.checks if c.name == "recorded edits")
    assert verification.passed, verification.failed
    assert "not so README.md, generation_config.json, edited by conv2linear 9.9.9" in detail
