"""What identifies the files that were checked: commits, hashes and versions."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.operations.verify.subject import Subject
from conv2linear.record.manifest import FileRecord
from conv2linear.sources.base import Origin, Repository
from conv2linear.version import __version__


@dataclass(frozen=True)
class RecordedTensor:
    """A tensor of a patch embedding, with the SHA-256 that the record has of its bytes."""

    name: str
    shard: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Identity:
    """Which files were checked, with what they are known by.

    `tool` is the version of conv2linear that checked, `recorded_by` the one that wrote the record.
    `origin` is the commit of a checkpoint on the Hub, `source_origin` that of a source there which
    it was compared with, and `recorded_source` the one that the record names. `files` are those
    that are here; the SHA-256 is that of the file as it was read where `files_hashed`, else the one
    on record, and None where there is none.
    """

    tool: str
    origin: Origin | None
    source_origin: Origin | None
    recorded_source: Origin | None
    recorded_by: str | None
    tensors: tuple[RecordedTensor, ...]
    files: tuple[FileRecord, ...]
    files_hashed: bool


def identify(subject: Subject, *, source: Repository | None) -> Identity:
    """Return what identifies a checkpoint and its source; nothing is read for it."""
    manifest = subject.manifest
    recorded = {record.name: record.sha256 for record in manifest.files} if manifest else {}
    return Identity(
        tool=__version__,
        origin=subject.repository.origin,
        source_origin=source.origin if source else None,
        recorded_source=manifest.source if manifest else None,
        recorded_by=manifest.tool if manifest else None,
        tensors=tuple(
            RecordedTensor(t.name, t.shard, t.dtype, t.shape_after, t.sha256)
            for t in (manifest.tensors if manifest else ())
        ),
        files=tuple(
            FileRecord(name, info.size_bytes, subject.sha256.get(name, recorded.get(name)))
            for name, info in sorted(subject.repository.files.items())
        ),
        files_hashed=bool(subject.sha256),
    )
