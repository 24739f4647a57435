"""Say which files no check has compared with anything, so that nothing is called sound unseen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from conv2linear.checkpoint.adapter.adapter import ADAPTER_WEIGHTS_NAME
from conv2linear.operations.verify.record import compared_by_record
from conv2linear.operations.verify.result import Check, NotCompared, Outcome
from conv2linear.operations.verify.subject import RECORDED, Subject
from conv2linear.record.manifest import MANIFEST_NAME
from conv2linear.text import write_command

_SOURCE, _FILES, _CHECKSUMS, _TENSORS = "source", "recorded files", "checksums", "recorded tensors"


def find_not_compared(subject: Subject, checks: Sequence[Check]) -> NotCompared | None:
    """Return the files whose bytes were not compared with the source's or with a hash on record.

    None where every one was. Of a reshaped shard the bytes of the patch embedding alone are known.
    """
    passed = {check.name for check in checks if check.outcome is Outcome.PASS}
    if _SOURCE in passed:
        return None
    recorded = subject.manifest.files if subject.manifest else ()
    with_hash = {record.name for record in recorded if record.sha256 is not None}
    compared: set[str] = set()
    if _CHECKSUMS in passed:
        compared |= with_hash
    if _FILES in passed:
        compared |= {record.name for record in compared_by_record(subject)}
    if _TENSORS in passed:
        compared |= {ADAPTER_WEIGHTS_NAME} & with_hash
    names = sorted(subject.repository.files.keys() - compared - {MANIFEST_NAME})
    return NotCompared(tuple(names), _command(subject, names, with_hash)) if names else None


def _command(subject: Subject, names: Collection[str], with_hash: Collection[str]) -> str:
    """Return the command that compares these files: by their hashes where all are on record."""
    at = subject.repository.origin
    checkpoint = f"{at.repo_id}@{at.commit_sha}" if at else Path(subject.repository.label)
    if set(names) <= set(with_hash):
        return write_command("verify", checkpoint, "--checksums")
    recorded = subject.manifest is not None and subject.manifest.source is not None
    return write_command("verify", checkpoint, "--source", RECORDED if recorded else "SOURCE")
