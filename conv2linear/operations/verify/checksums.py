"""Check the SHA-256 of every file against the record, and complete the record if asked."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from conv2linear.errors import CheckFailedError, SourceChangedError
from conv2linear.files.disk_errors import write_errors
from conv2linear.files.hash import hash_file
from conv2linear.files.sync import sync_file
from conv2linear.operations.verify.needs import need_checksums, need_record
from conv2linear.operations.verify.record import is_extended_by_hub
from conv2linear.operations.verify.result import Check, Outcome
from conv2linear.operations.verify.subject import Subject
from conv2linear.parallel import map_parallel
from conv2linear.record.manifest import MANIFEST_NAME, FileRecord, dump_manifest
from conv2linear.sources.base import FileInfo, Repository
from conv2linear.sources.folder import Folder
from conv2linear.text import plural

CHECKSUMS = "checksums"
_CHUNK_BYTES = 1 << 20


def hash_files(subject: Subject) -> dict[str, str]:
    """Return the SHA-256 of each file on record, by name; nothing if that was not asked for.

    A file of a folder is read. Of one on the Hub the hash that the Hub lists is taken; a small
    one, of which it lists none, is downloaded.
    """
    if not subject.options.checksums:
        return {}
    files = [subject.repository.files[record.name] for record in _present(subject)]
    subject.options.progress.step(CHECKSUMS, sum(info.size_bytes for info in files))
    hashes = map_parallel(
        partial(_hash, subject.repository),
        files,
        workers=subject.options.workers,
        on_bytes=subject.options.progress.advance,
        finish_earlier=True,
    )
    return {info.name: value for info, value in zip(files, hashes, strict=True)}


def check_checksums(subject: Subject) -> str:
    """Compare the hashes of `hash_files` with those on record."""
    need_checksums(subject)
    need_record(subject)
    for record in _present(subject):
        found = subject.sha256[record.name]
        if record.sha256 not in (None, found) and not is_extended_by_hub(subject, record.name):
            listed = _is_listed(subject.repository.files[record.name])
            where = "is listed by the Hub with" if listed else "has"
            raise CheckFailedError(
                f"{record.name} {where} SHA-256 {found}, expected {record.sha256}"
            )
    return _describe(subject, "have none on record")


def complete_record(subject: Subject, checks: Sequence[Check]) -> tuple[Check, ...]:
    """Write the hashes that the record lacks into it, where that was asked for and no check failed.

    Returns the checks; that of the checksums says what was done. Only a folder is written to, and
    only its record.
    """
    check = next((check for check in checks if check.name == CHECKSUMS), None)
    if not subject.options.record_checksums or check is None or not _unknown(subject):
        return tuple(checks)
    if check.outcome is not Outcome.PASS:
        return tuple(checks)
    if any(check.outcome in (Outcome.FAIL, Outcome.NOT_DONE) for check in checks):
        detail = "have none on record, which stays so as other checks did not pass"
    elif isinstance(subject.repository, Folder):
        _write_record(subject, subject.repository.path / MANIFEST_NAME)
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
    present, unknown = _present(subject), _unknown(subject)
    text = f"{plural(len(present) - unknown, 'file')} with the recorded SHA-256"
    files = subject.repository.files
    known = [record for record in present if record.sha256 is not None]
    if listed := sum(_is_listed(files[record.name]) for record in known):
        text += f", {listed} as the Hub lists it"
    return text + (f"; {unknown} {unknown_files}" if unknown else "")


def _is_listed(info: FileInfo) -> bool:
    """Tell whether the Hub has just listed the SHA-256 of a file."""
    return info.content_id is not None and info.sha256 is not None


def _hash(repository: Repository, info: FileInfo, on_bytes: Callable[[int], None]) -> str:
    if info.sha256 is not None and _is_listed(info):  # a cache is not what is verified
        on_bytes(info.size_bytes)
        return info.sha256
    if info.path is not None:
        return hash_file(info.path, on_bytes=on_bytes)
    digest = hashlib.sha256()
    for start in range(0, info.size_bytes, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, info.size_bytes - start)
        content = repository.read(info.name, start, length)
        if len(content) != length:
            raise SourceChangedError(f"{info.name}: cut off at byte {start + len(content)}")
        digest.update(content)
        on_bytes(length)
    return digest.hexdigest()


def _write_record(subject: Subject, path: Path) -> None:
    """Replace the record atomically by one with all hashes and the same permissions."""
    manifest = need_record(subject)
    files = tuple(
        record
        if is_extended_by_hub(subject, record.name)  # its hash is not that of the size on record
        else replace(record, sha256=subject.sha256[record.name])
        for record in manifest.files
    )
    content = dump_manifest(replace(manifest, files=files)).encode()
    with write_errors(path):
        mode = stat.S_IMODE(path.stat().st_mode)
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            Path(new).replace(path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise
        sync_file(path.parent)
