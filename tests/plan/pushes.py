"""A checkpoint of two shards, complete and as an overlay, as a push sees it."""

from __future__ import annotations

from dataclasses import replace

from conv2linear.hub.remote import RemoteFile
from conv2linear.plan.transfer import Operation, plan_operations
from conv2linear.record.manifest import EditRecord, FileRecord, Manifest, ShardRecord
from conv2linear.sources.base import Origin

RESHAPED, OTHER = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
FULL = Manifest(
    tool="0",
    source=Origin("org/source", "0" * 40),
    model_type="glm4v",
    tensors=(),
    shards=(ShardRecord(RESHAPED, "", ""),),
    files=(
        FileRecord("config.json", 20, "new"),
        FileRecord(RESHAPED, 1000, None),
        FileRecord(OTHER, 2000, "2" * 64),
        FileRecord("vocab.json", 30, None),
    ),
    absent=(),
    edits=(EditRecord("config.json", "{}"),),
    check=(),
    partial=False,
)
OVERLAY = replace(FULL, files=FULL.files[:2], absent=FULL.files[2:], partial=True)
SOURCE = {
    file.name: file
    for file in (
        RemoteFile("config.json", 10, "git:old", can_copy=False),
        RemoteFile(RESHAPED, 1000, "1" * 64, can_copy=True),
        RemoteFile(OTHER, 2000, "2" * 64, can_copy=True),
        RemoteFile("vocab.json", 30, "git:vocab", can_copy=False),
    )
}


def plan_files(
    manifest: Manifest,
    *,
    source: dict[str, RemoteFile] = SOURCE,
    existing: dict[str, RemoteFile] | None = None,
    already_on_target: tuple[str, ...] = (),
    copyable: bool = True,
) -> dict[str, Operation]:
    """Plan each file of the push; a new repository is the target if nothing else is said."""
    operations = plan_operations(
        manifest,
        manifest_bytes=5,
        source=source,
        existing=existing or {},
        already_on_target=already_on_target,
        copyable=copyable,
    )
    assert [o.name for o in operations] == sorted(o.name for o in operations)
    return {operation.name: operation for operation in operations}


def kinds(operations: dict[str, Operation]) -> dict[str, str]:
    """Return how each file gets to the target."""
    return {name: operation.kind.value for name, operation in operations.items()}
