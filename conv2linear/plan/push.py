"""Decide what a push does to each file of the target; nothing is sent here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.errors import HubError, SourceChangedError
from conv2linear.record.manifest import MANIFEST_NAME, FileRecord, Manifest
from conv2linear.text import TextEnum


class Transfer(TextEnum):
    """How the content of one file gets to where it belongs."""

    UPLOAD = "upload"
    COPY = "copy"  # on the server, from the repository of the source
    KEEP = "keep"  # it is there already


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub; `content_id` is its SHA-256, or `git:` and its blob id if it is small.

    `can_copy` says whether the server can hand it to another repository.
    """

    name: str
    size_bytes: int
    content_id: str
    can_copy: bool


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


@dataclass(frozen=True)
class PushPlan:
    """All that a push will do. `parent` is the commit that it builds on, None if there is none yet.

    `branch` is made if `creates_branch`, and so is the whole repository if `creates_repository`.
    """

    repo_id: str
    branch: str
    parent: str | None
    creates_repository: bool
    creates_branch: bool
    create_pr: bool
    private: bool
    operations: tuple[Operation, ...]

    @property
    def pending(self) -> tuple[Operation, ...]:
        """The operations that change something."""
        return tuple(o for o in self.operations if o.kind is not Transfer.KEEP)

    @property
    def uploaded_bytes(self) -> int:
        """Bytes that go from this machine to the Hub, unless the Hub has the content already."""
        return sum(o.size_bytes for o in self.operations if o.kind is Transfer.UPLOAD)

    @property
    def downloaded_bytes(self) -> int:
        """Bytes of small files that an overlay lacks and that come from the source first."""
        return sum(
            o.size_bytes for o in self.operations if o.kind is Transfer.UPLOAD and not o.is_local
        )

    @property
    def copied_bytes(self) -> int:
        """Bytes that the server copies."""
        return sum(o.size_bytes for o in self.operations if o.kind is Transfer.COPY)

    @property
    def copied_file_count(self) -> int:
        """Number of files that the server copies."""
        return sum(o.kind is Transfer.COPY for o in self.operations)


def plan_operations(
    manifest: Manifest,
    *,
    manifest_bytes: int,
    source: Mapping[str, RemoteFile],
    base: Mapping[str, RemoteFile],
    held: Collection[str],
) -> tuple[Operation, ...]:
    """Decide the operation for each file of a converted checkpoint, in the order of their names.

    `source` are the files of the source at the recorded commit, empty where it cannot be read;
    `base` those of the target at the commit to build on; `held` names the files of this machine
    whose content the target has. Raises `SourceChangedError` where source and record contradict
    each other, and `HubError` where an overlay lacks a file that the server does not copy.
    """
    return tuple(
        _plan_file(
            record,
            original=None if record.name in changed_names(manifest) else source.get(record.name),
            there=base.get(record.name),
            is_held=record.name in held,
            is_local=record not in manifest.absent,
        )
        for record in _records(manifest, manifest_bytes)
    )


def complete_manifest(manifest: Manifest) -> Manifest:
    """Return the record that an overlay has once the files that it lacks stand beside it."""
    files = sorted((*manifest.files, *manifest.absent), key=lambda record: record.name)
    return replace(manifest, files=tuple(files), absent=(), partial=False)


def changed_names(manifest: Manifest) -> set[str]:
    """Return the names of the files that differ from those of the source."""
    shards = {record.name for record in manifest.shards}
    return shards | {record.name for record in manifest.edits} | {MANIFEST_NAME}


def refuse_stray_weights(
    operations: Collection[Operation], base: Mapping[str, RemoteFile], *, label: str
) -> None:
    """Raise `HubError` where the target has weights that are not of this checkpoint.

    A push deletes nothing: they would stay, and confuse who loads the target.
    """
    names = {operation.name for operation in operations}
    stray = sorted(name for name in base.keys() - names if _is_weights(name))
    if stray:
        raise HubError(
            f"{label} has {stray[0]}, which is not part of this checkpoint",
            hint="a push deletes nothing: choose another repository or branch",
        )


def refuse_foreign_checkpoint(
    operations: Collection[Operation], base: Mapping[str, RemoteFile], *, label: str
) -> None:
    """Raise `HubError` where the target would lose a checkpoint that did not come from here."""
    replaced = {operation.name for operation in operations if operation.replaces}
    if CONFIG_NAME in replaced and MANIFEST_NAME not in base:
        raise HubError(
            f"{label} holds another checkpoint",
            hint="choose another repository or branch, or propose it with --create-pr",
        )


def _records(manifest: Manifest, manifest_bytes: int) -> list[FileRecord]:
    own = FileRecord(MANIFEST_NAME, manifest_bytes, None)
    records: list[FileRecord] = [*manifest.files, *manifest.absent, own]
    return sorted(records, key=lambda record: record.name)


def _plan_file(
    record: FileRecord,
    *,
    original: RemoteFile | None,
    there: RemoteFile | None,
    is_held: bool,
    is_local: bool,
) -> Operation:
    if original:
        _check_original(record, original)
        is_held = there is not None and there.content_id == original.content_id
    kind = _kind(original, is_held=is_held)
    if kind is Transfer.UPLOAD and not is_local:
        _check_fetchable(record, original)
    return Operation(
        name=record.name,
        kind=kind,
        size_bytes=record.size_bytes,
        content_id=original.content_id if original else record.sha256,
        is_local=is_local,
        replaces=there is not None and not is_held,
    )


def _kind(original: RemoteFile | None, *, is_held: bool) -> Transfer:
    if is_held:
        return Transfer.KEEP
    return Transfer.COPY if original and original.can_copy else Transfer.UPLOAD


def _check_original(record: FileRecord, original: RemoteFile) -> None:
    small = original.content_id.startswith("git:")
    same = small or record.sha256 in (None, original.content_id)
    if original.size_bytes != record.size_bytes or not same:
        raise SourceChangedError(
            f"{record.name}: the source has {original.size_bytes} bytes with "
            f"{original.content_id}, recorded were {record.size_bytes} bytes with {record.sha256}"
        )


def _check_fetchable(record: FileRecord, original: RemoteFile | None) -> None:
    if original is None or not original.content_id.startswith("git:"):
        raise HubError(
            f"{record.name} is not in this overlay, and the Hub does not copy it from the source",
            hint="convert without --changed-only, then push the whole checkpoint",
        )


def _is_weights(name: str) -> bool:
    return name == INDEX_FILE or (name.endswith(".safetensors") and "/" not in name)
