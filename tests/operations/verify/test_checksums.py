"""Checksums: read once, compared with the record, and filled in where nothing failed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conv2linear import verify
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.checksums import check_checksums, complete_record, hash_files
from conv2linear.operations.verify.needs import NotAskedForError, SkippedError
from conv2linear.operations.verify.result import Check, Outcome
from conv2linear.operations.verify.subject import Options, Subject, open_subject
from tests.support.checkpoints import BIAS, MANIFEST, WEIGHT
from tests.support.contents import hashes, manifest_of
from tests.support.damage import edit_json, flip_bit

OTHER = "lm_head.weight"


def hashed(folder: Path) -> Subject:
    subject = open_subject(folder, options=Options(checksums=True, record_checksums=True))
    return replace(subject, sha256=hash_files(subject))


def test_every_file_on_record_is_hashed(linear: Path) -> None:
    expected = hashes(linear)
    del expected[MANIFEST]
    assert hash_files(open_subject(linear, options=Options(checksums=True))) == expected


def test_nothing_is_hashed_unless_that_was_asked_for(linear: Path) -> None:
    subject = open_subject(linear)
    assert hash_files(subject) == {}
    with pytest.raises(NotAskedForError):
        check_checksums(subject)


def test_without_a_record_there_is_nothing_to_compare_with(linear: Path) -> None:
    (linear / MANIFEST).unlink()
    with pytest.raises(SkippedError, match=r"no conv2linear\.json that says"):
        check_checksums(hashed(linear))


def test_a_hash_that_differs_fails_and_both_are_named(linear: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        record = next(f for f in manifest["files"] if f["name"] == "config.json")
        record["sha256"] = "0" * 64

    edit_json(linear / MANIFEST, change)
    found = hashes(linear)["config.json"]
    with pytest.raises(CheckFailedError, match=rf"config\.json has SHA-256 {found}, expected 0+"):
        check_checksums(hashed(linear))


def test_the_check_itself_writes_nothing(linear: Path) -> None:
    before = hashes(linear)
    assert check_checksums(hashed(linear)).endswith(" have none on record")
    assert hashes(linear) == before


def test_the_record_is_completed_and_then_complete(linear: Path) -> None:
    subject = hashed(linear)
    passed = Check("checksums", Outcome.PASS, check_checksums(subject))
    (check,) = complete_record(subject, [passed])
    assert check.detail.endswith(" had none on record, which is filled in now")
    recorded = {record["name"]: record["sha256"] for record in manifest_of(linear)["files"]}
    assert recorded == {name: v for name, v in hashes(linear).items() if name != MANIFEST}
    assert check_checksums(hashed(linear)) == f"{len(recorded)} files with the recorded SHA-256"


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.SKIP])
def test_a_checksum_check_that_did_not_pass_completes_nothing(
    outcome: Outcome, linear: Path
) -> None:
    before = hashes(linear)
    checks = (Check("checksums", outcome, "the reason"),)
    assert complete_record(hashed(linear), checks) == checks
    assert hashes(linear) == before


@pytest.mark.parametrize("tensor", [WEIGHT, BIAS, OTHER])
def test_checksums_catch_a_flipped_bit(tensor: str, linear: Path) -> None:
    assert verify(linear, record_checksums=True, device="cpu").passed
    flip_bit(linear, tensor)
    verification = verify(linear, checksums=True, device="cpu")
    assert "checksums" in {c.name for c in verification.failed}


def test_checksums_fill_in_nothing_where_another_check_failed(linear: Path) -> None:
    flip_bit(linear, WEIGHT)
    before = (linear / "conv2linear.json").read_bytes()
    verification = verify(linear, record_checksums=True, device="cpu")
    assert not verification.passed
    assert (linear / "conv2linear.json").read_bytes() == before
    check = next(c for c in verification.checks if c.name == "checksums")
    assert check.detail.endswith("which stays so as other checks did not pass")
