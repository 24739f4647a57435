"""The checks against the record, each called by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conv2linear import verify
from conv2linear.errors import BadCheckpointError, CheckFailedError
from conv2linear.operations.verify.needs import SkippedError
from conv2linear.operations.verify.record import (
    check_record,
    check_recorded_edits,
    check_recorded_files,
    check_recorded_tensors,
)
from conv2linear.operations.verify.subject import open_subject
from conv2linear.version import __version__
from tests.support.checkpoints import BIAS, MANIFEST, WEIGHT
from tests.support.contents import manifest_of, shard_with
from tests.support.damage import edit_header, edit_json, flip_bit


def test_each_check_says_what_it_found(linear: Path) -> None:
    subject = open_subject(linear)
    files = manifest_of(linear)["files"]
    hashed = sum(file["sha256"] is not None for file in files)
    assert check_record(subject) == f"written by conv2linear {__version__} from a folder"
    assert check_recorded_tensors(subject).startswith("2 tensors and ")
    assert check_recorded_files(subject) == (
        f"{len(files)} files with the recorded sizes, {hashed} of them with the recorded SHA-256, "
        "and no other"
    )
    assert check_recorded_edits(subject) == (
        "README.md, config.json follow from the recorded originals"
    )


def test_without_a_record_each_check_is_skipped(linear: Path) -> None:
    (linear / MANIFEST).unlink()
    subject = open_subject(linear)
    with pytest.raises(SkippedError, match="made by another tool, or left out"):
        check_record(subject)
    for check in (check_recorded_tensors, check_recorded_files, check_recorded_edits):
        with pytest.raises(SkippedError, match=r"no conv2linear\.json that says what it should"):
            check(subject)


def test_a_record_that_is_not_valid_fails(linear: Path) -> None:
    edit_json(linear / MANIFEST, lambda m: m.pop("tensors"))
    with pytest.raises(BadCheckpointError, match="not a valid manifest"):
        check_record(open_subject(linear))


@pytest.mark.parametrize("tensor", [WEIGHT, BIAS])
def test_a_changed_tensor_is_named(tensor: str, linear: Path) -> None:
    flip_bit(linear, tensor)
    with pytest.raises(CheckFailedError, match=f"the bytes of {tensor} are not those on record"):
        check_recorded_tensors(open_subject(linear))


def _rename(record: dict[str, Any]) -> None:
    record["name"] = "another.weight"


def _move(record: dict[str, Any]) -> None:
    record["shard"] = "model-00001-of-00001.safetensors"


def _reshape(record: dict[str, Any]) -> None:
    record["shape_after"] = [1176, 128]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_rename, f"{WEIGHT} is not in the record"),
        (_move, f"{WEIGHT} is not in model-00001-of-00001.safetensors"),
        (_reshape, f"{WEIGHT} is BF16 .128, 1176., recorded as BF16 .1176, 128."),
    ],
)
def test_a_record_of_another_tensor_fails(
    edit: Callable[[dict[str, Any]], None], message: str, linear: Path
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        edit(next(t for t in manifest["tensors"] if t["name"] == WEIGHT))

    edit_json(linear / MANIFEST, change)
    with pytest.raises(CheckFailedError, match=message):
        check_recorded_tensors(open_subject(linear))


def test_a_header_that_says_the_same_in_other_bytes_fails(linear: Path) -> None:
    shard = shard_with(linear, WEIGHT)
    edit_header(shard, lambda header: header.update(dict(reversed(header.items()))))
    edit_header(shard, lambda header: header["__metadata__"].clear())
    with pytest.raises(CheckFailedError, match=f"the header of {shard.name} is not the one"):
        check_recorded_tensors(open_subject(linear))


def test_files_of_git_are_nothing_that_was_added(linear: Path) -> None:
    (linear / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert "and no other" in check_recorded_files(open_subject(linear))
    (linear / "new.txt").write_text("new")
    with pytest.raises(CheckFailedError, match=r"new\.txt is not on record"):
        check_recorded_files(open_subject(linear))


def test_an_edit_that_no_conversion_makes_fails(linear: Path) -> None:
    edit_json(
        linear / MANIFEST, lambda m: m["edits"].append({"name": "code/extra.py", "original": ""})
    )
    with pytest.raises(CheckFailedError, match=r"code/extra\.py is on record as edited"):
        check_recorded_edits(open_subject(linear))


def test_a_model_card_of_another_version_is_not_compared(linear: Path) -> None:
    edit_json(linear / MANIFEST, lambda m: m.update(tool="0.0.1"))
    (linear / "README.md").write_text("a card of that version")
    assert check_recorded_edits(open_subject(linear)).startswith("config.json follow")


def test_files_that_are_not_edited_are_compared_by_their_size_alone(linear: Path) -> None:
    verify(linear, record_checksums=True, device="cpu")
    assert all(record["sha256"] for record in manifest_of(linear)["files"])
    flip_bit(linear, "lm_head.weight")
    assert "with the recorded sizes" in check_recorded_files(open_subject(linear))
