"""Check the SHA-256 of every file against the record, and complete the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from conv2linear.errors import CheckFailedError
from conv2linear.files.hash import hash_file
from conv2linear.operations.verify.needs import SkippedError, need_checksums, need_record
from conv2linear.operations.verify.result import Check, Outcome
from conv2linear.operations.verify.subject import Subject
from conv2linear.parallel import map_parallel
from conv2linear.record.manifest import MANIFEST_NAME, FileRecord, dump_manifest
from conv2linear.sources.base import FileInfo
from conv2linear.sources.folder import Folder
from conv2linear.text import plural

CHECKSUMS = "checksums"


def hash_files(subject: Subject) -> dict[str, str]:
    """Return the SHA-256 of each file on record, by name; nothing if that was not asked for.

    A file on this machine is read. Of one that only the Hub has, the hash that the Hub lists is
    taken; where it lists none, the file is left out.
    """
    if not subject.options.checksums:
        return {}
    files = [subject.repository.files[record.name] for record in _present(subject)]
    subject.options.progress.step(CHECKSUMS, sum(info.size_bytes for info in files))
    hashes = map_parallel(
        _hash, files, workers=subject.options.workers, progress=subject.options.progress
    )
    return {info.name: value for info, value in zip(files, hashes, strict=True) if value}


def check_checksums(subject: Subject) -> str:
    """Compare the hashes of `hash_files` with those on record."""
    need_checksums(subject)
    need_record(subject)
    for record in _present(subject):
        found = subject.sha256.get(record.name)
        if found and record.sha256 not in (None, found):
            raise CheckFailedError(f"{record.name} has SHA-256 {found}, expected {record.sha256}")
    for record in _present(subject):
        if record.name not in subject.sha256:
            raise SkippedError(f"the Hub has no SHA-256 of {record.name}")
    return _describe(subject, "have none on record")


def record_checksums(subject: Subject, checks: Sequence[Check]) -> tuple[Check, ...]:
    """Write the hashes that the record lacks into it, if no check failed; the check says so.

    Returns the checks. Only a folder is written to, and only its record.
    """
    check = next((check for check in checks if check.name == CHECKSUMS), None)
    if check is None or check.outcome is not Outcome.PASS or not _unknown(subject):
        return tuple(checks)
    if any(check.outcome is Outcome.FAIL for check in checks):
        detail = "have none on record, which stays so as other checks failed"
    elif isinstance(subject.repository, Folder):
        _complete_record(subject, subject.repository.path / MANIFEST_NAME)
        detail = "had none on record, which is filled in now"
    else:
        return tuple(checks)
    changed = replace(check, detail=_describe(subject, detail))
    return tuple(changed if each is check else each for each in checks)


def _present(subject: Subject) -> list[FileRecord]:
    """Return the files on record that exist; that others do not is found by another check."""
    records = subject.manifest.files if subject.manifest else ()
    return [record for record in records if record.name in subject.repository.files]


def _unknown(subject: Subject) -> int:
    return sum(record.sha256 is None for record in _present(subject))


def _describe(subject: Subject, unknown_files: str) -> str:
    unknown = _unknown(subject)
    known = plural(len(_present(subject)) - unknown, "file")
    rest = f"; {unknown} {unknown_files}" if unknown else ""
    return f"{known} with the recorded SHA-256{rest}"


def _hash(info: FileInfo, on_bytes: Callable[[int], None]) -> str | None:
    return info.sha256 if info.path is None else hash_file(info.path, on_bytes=on_bytes)


def _complete_record(subject: Subject, path: Path) -> None:
    manifest = need_record(subject)
    files = tuple(replace(record, sha256=subject.sha256[record.name]) for record in manifest.files)
    new = path.with_name(f".{path.name}.new")
    new.write_text(dump_manifest(replace(manifest, files=files)), encoding="utf-8")
    new.replace(path)
