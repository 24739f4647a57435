"""The decision what a push does to each file, made without a server."""

from dataclasses import replace

import pytest

from conv2linear.errors import HubError, SourceChangedError
from conv2linear.plan.push import (
    Operation,
    PushPlan,
    RemoteFile,
    Transfer,
    complete_manifest,
    plan_operations,
    refuse_foreign_checkpoint,
    refuse_stray_weights,
)
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


def plan(
    manifest: Manifest,
    *,
    source: dict[str, RemoteFile] = SOURCE,
    base: dict[str, RemoteFile] | None = None,
    held: tuple[str, ...] = (),
) -> dict[str, Operation]:
    operations = plan_operations(
        manifest, manifest_bytes=5, source=source, base=base or {}, held=held
    )
    assert [o.name for o in operations] == sorted(o.name for o in operations)
    return {operation.name: operation for operation in operations}


def kinds(operations: dict[str, Operation]) -> dict[str, str]:
    return {name: operation.kind.value for name, operation in operations.items()}


@pytest.mark.parametrize("manifest", [FULL, OVERLAY], ids=["full", "overlay"])
def test_a_new_repository_gets_changed_files_uploaded_and_large_ones_copied(
    manifest: Manifest,
) -> None:
    operations = plan(manifest)
    assert kinds(operations) == {
        "config.json": "upload",
        "conv2linear.json": "upload",
        RESHAPED: "upload",
        OTHER: "copy",
        "vocab.json": "upload",
    }
    assert operations["vocab.json"].is_local is (manifest is FULL)
    assert operations["vocab.json"].content_id == "git:vocab"
    assert not any(operation.replaces for operation in operations.values())


def test_the_repository_of_the_source_gets_only_what_changed() -> None:
    operations = plan(OVERLAY, base=SOURCE)
    assert kinds(operations) == {
        "config.json": "upload",
        "conv2linear.json": "upload",
        RESHAPED: "upload",
        OTHER: "keep",
        "vocab.json": "keep",
    }
    assert [o.name for o in operations.values() if o.replaces] == ["config.json", RESHAPED]


def test_what_the_target_has_is_kept() -> None:
    held = ("config.json", "conv2linear.json", RESHAPED)
    base = SOURCE | {name: RemoteFile(name, 1, "any", can_copy=True) for name in held}
    assert set(kinds(plan(FULL, base=base, held=held)).values()) == {"keep"}


def test_a_file_of_the_same_name_with_other_content_is_replaced() -> None:
    base = {OTHER: RemoteFile(OTHER, 2000, "3" * 64, can_copy=True)}
    operation = plan(FULL, base=base)[OTHER]
    assert (operation.kind, operation.replaces) == (Transfer.COPY, True)


def test_a_whole_checkpoint_is_uploaded_where_nothing_can_be_copied() -> None:
    stuck = {name: replace(file, can_copy=False) for name, file in SOURCE.items()}
    for source in ({}, stuck):
        assert set(kinds(plan(FULL, source=source)).values()) == {"upload"}


def test_an_overlay_is_refused_where_nothing_can_be_copied() -> None:
    stuck = SOURCE | {OTHER: replace(SOURCE[OTHER], can_copy=False)}
    for source in ({}, stuck):
        with pytest.raises(HubError, match="is not in this overlay"):
            plan(OVERLAY, source=source)


@pytest.mark.parametrize(
    "file",
    [
        RemoteFile(OTHER, 2000, "4" * 64, can_copy=True),
        RemoteFile(OTHER, 1999, "2" * 64, can_copy=True),
        RemoteFile("vocab.json", 31, "git:vocab", can_copy=False),
    ],
)
def test_a_source_that_contradicts_the_record_is_refused(file: RemoteFile) -> None:
    with pytest.raises(SourceChangedError, match=file.name):
        plan(FULL, source=SOURCE | {file.name: file})


def test_bytes_are_counted_where_they_move() -> None:
    operations = tuple(plan(OVERLAY).values())
    whole = PushPlan(
        "org/new",
        "main",
        None,
        creates_repository=True,
        creates_branch=False,
        create_pr=False,
        private=False,
        operations=operations,
    )
    assert whole.uploaded_bytes == 20 + 5 + 1000 + 30
    assert whole.downloaded_bytes == 30
    assert (whole.copied_file_count, whole.copied_bytes) == (1, 2000)


def test_weights_that_would_stay_beside_the_checkpoint_are_refused() -> None:
    operations = tuple(plan(FULL).values())
    for name in ("model.safetensors", "model.safetensors.index.json"):
        base = {name: RemoteFile(name, 1, "any", can_copy=True)}
        with pytest.raises(HubError, match="not part of this checkpoint"):
            refuse_stray_weights(operations, base, label="org/new")
    harmless = dict.fromkeys(("notes.md", "onnx/model.safetensors"), SOURCE["vocab.json"])
    refuse_stray_weights(operations, harmless, label="org/new")


def test_a_checkpoint_from_elsewhere_is_not_replaced() -> None:
    base = {"config.json": RemoteFile("config.json", 1, "git:any", can_copy=False)}
    with pytest.raises(HubError, match="another checkpoint"):
        refuse_foreign_checkpoint(tuple(plan(FULL, base=base).values()), base, label="org/new")
    base |= {"conv2linear.json": RemoteFile("conv2linear.json", 1, "git:any", can_copy=False)}
    refuse_foreign_checkpoint(tuple(plan(FULL, base=base).values()), base, label="org/new")


def test_the_record_of_an_overlay_becomes_that_of_the_whole() -> None:
    assert complete_manifest(OVERLAY) == FULL
