"""Decide how the content of each file gets to the target of a push; nothing is sent here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from conv2linear.errors import HubError, SourceChangedError
from conv2linear.hub.remote import IdKind, RemoteFile
from conv2linear.record.git_attributes import GIT_ATTRIBUTES
from conv2linear.record.manifest import MANIFEST_NAME, FileRecord, Manifest
from conv2linear.text import TextEnum


class Transfer(TextEnum):
    """How the content of one file gets to where it belongs."""

    UPLOAD = "upload"
    COPY = "copy"  # on the server, from the repository of the source
    KEEP = "keep"  # the target has it already


@dataclass(frozen=True)
class Operation:
    """One file of the push. `content_id` is what it must hold, None where nothing says so.

    `is_local` files are in the folder of the checkpoint; `replaces` marks one that takes the place
    of other content in the target.
    """

    name: str
    kind: Transfer
    size_bytes: int
    content_id: str | None
    is_local: bool
    replaces: bool


def plan_operations(
    manifest: Manifest,
    *,
    manifest_bytes: int,
    source: Mapping[str, RemoteFile],
    existing: Mapping[str, RemoteFile],
    already_on_target: Collection[str],
    copyable: bool = True,
) -> tuple[Operation, ...]:
    """Decide the operation for each file of a converted checkpoint, in the order of their names.

    `source` are the files of the source at the recorded commit, empty where it cannot be read;
    `existing` those of the target at the commit to build on; `already_on_target` names the files
    of this machine whose content the target has. `copyable` is false where the server refuses to
    copy from the source. Raises `SourceChangedError` where source and record contradict each
    other, and `HubError` where an overlay lacks a file that the server does not copy.
    """
    changed = changed_names(manifest)
    return tuple(
        _plan_file(
            record,
            original=None if record.name in changed else source.get(record.name),
            existing=existing.get(record.name),
            already_on_target=record.name in already_on_target,
            is_local=record not in manifest.absent,
            copyable=copyable,
        )
        for record in _records(manifest, manifest_bytes)
    )


def changed_names(manifest: Manifest) -> set[str]:
    """Return the names of the files that differ from those of the source, or were left out."""
    shards = {record.name for record in manifest.shards}
    shards |= {record.name for record in manifest.left_out}
    return shards | set(manifest.edited) | {MANIFEST_NAME}


def names_to_hash(
    sizes: Mapping[str, int],
    *,
    source: Mapping[str, RemoteFile],
    existing: Mapping[str, RemoteFile],
) -> list[str]:
    """Return which files of this machine must be hashed to know if the target has their content.

    `sizes` is the size in bytes of each file by name. Where the target has the file of the source,
    nothing needs to be hashed: a changed file differs from it, and any other one is the same.
    """
    return [
        name
        for name in sorted(sizes.keys() & existing.keys())
        if existing[name].size_bytes == sizes[name]
        and (name not in source or source[name].content_id != existing[name].content_id)
    ]


def _records(manifest: Manifest, manifest_bytes: int) -> list[FileRecord]:
    own = FileRecord(MANIFEST_NAME, manifest_bytes, None)
    records: list[FileRecord] = [*manifest.files, *manifest.absent, own]
    return sorted(records, key=lambda record: record.name)


def _plan_file(
    record: FileRecord,
    *,
    original: RemoteFile | None,
    existing: RemoteFile | None,
    already_on_target: bool,
    is_local: bool,
    copyable: bool,
) -> Operation:
    if original:
        _refuse_changed_source(record, original)
        is_same = existing is not None and existing.content_id == original.content_id
        # Of this file alone the target may have more than the source, see `is_extended`.
        already_on_target = is_same or (record.name == GIT_ATTRIBUTES and already_on_target)
    if already_on_target:
        kind = Transfer.KEEP
    elif copyable and original and original.can_copy:
        kind = Transfer.COPY
    else:
        kind = Transfer.UPLOAD
        if not is_local:
            _refuse_unless_downloadable(record, original)
    return Operation(
        name=record.name,
        kind=kind,
        size_bytes=record.size_bytes,
        content_id=original.content_id if original else record.sha256,
        is_local=is_local,
        replaces=existing is not None and not already_on_target,
    )


def _refuse_changed_source(record: FileRecord, original: RemoteFile) -> None:
    is_small = original.id_kind is IdKind.GIT_BLOB
    is_same = is_small or record.sha256 in (None, original.content_id)
    if original.size_bytes != record.size_bytes or not is_same:
        raise SourceChangedError(
            f"{record.name}: the source has {original.size_bytes} bytes with "
            f"{original.content_id}, recorded were {record.size_bytes} bytes with {record.sha256}"
        )


def _refuse_unless_downloadable(record: FileRecord, original: RemoteFile | None) -> None:
    """Raise `HubError` for a file that an overlay lacks, unless it is small and the source has it.

    A large one would pass through this machine, which is what an overlay avoids.
    """
    if original is None or original.id_kind is not IdKind.GIT_BLOB:
        raise HubError(
            f"{record.name} is not in this overlay, and the Hub does not copy it from the source",
            hint="convert without --changed-only, then push the whole checkpoint",
        )
