"""The decision how the content of each file gets to the target, made without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conv2linear.errors import HubError, SourceChangedError
from conv2linear.hub.remote import RemoteFile
from conv2linear.plan.transfer import Transfer, names_to_hash
from conv2linear.record.manifest import Manifest
from tests.plan.pushes import FULL, OTHER, OVERLAY, RESHAPED, SOURCE, kinds, plan_files


@pytest.mark.parametrize("manifest", [FULL, OVERLAY], ids=["full", "overlay"])
def test_a_new_repository_gets_changed_files_uploaded_and_large_ones_copied(
    manifest: Manifest,
) -> None:
    operations = plan_files(manifest)
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
    operations = plan_files(OVERLAY, existing=SOURCE)
    assert kinds(operations) == {
        "config.json": "upload",
        "conv2linear.json": "upload",
        RESHAPED: "upload",
        OTHER: "keep",
        "vocab.json": "keep",
    }
    assert [o.name for o in operations.values() if o.replaces] == ["config.json", RESHAPED]


def test_what_the_target_has_is_kept() -> None:
    known = ("config.json", "conv2linear.json", RESHAPED)
    base = SOURCE | {name: RemoteFile(name, 1, "any", can_copy=True) for name in known}
    assert set(kinds(plan_files(FULL, existing=base, already_on_target=known)).values()) == {"keep"}


def test_a_file_of_the_same_name_with_other_content_is_replaced() -> None:
    base = {OTHER: RemoteFile(OTHER, 2000, "3" * 64, can_copy=True)}
    operation = plan_files(FULL, existing=base)[OTHER]
    assert (operation.kind, operation.replaces) == (Transfer.COPY, True)


def test_a_whole_checkpoint_is_uploaded_where_nothing_can_be_copied() -> None:
    stuck = {name: replace(file, can_copy=False) for name, file in SOURCE.items()}
    for source in ({}, stuck):
        assert set(kinds(plan_files(FULL, source=source)).values()) == {"upload"}
    assert set(kinds(plan_files(FULL, copyable=False)).values()) == {"upload"}


def test_an_overlay_is_refused_where_nothing_can_be_copied() -> None:
    stuck = SOURCE | {OTHER: replace(SOURCE[OTHER], can_copy=False)}
    for source in ({}, stuck):
        with pytest.raises(HubError, match="is not in this overlay"):
            plan_files(OVERLAY, source=source)
    with pytest.raises(HubError, match="is not in this overlay"):
        plan_files(OVERLAY, copyable=False)


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
        plan_files(FULL, source=SOURCE | {file.name: file})


def test_what_the_target_has_is_kept_where_the_server_does_not_copy() -> None:
    operations = plan_files(OVERLAY, existing=SOURCE, copyable=False)
    assert operations[OTHER].kind is Transfer.KEEP


def test_only_what_a_size_and_the_source_do_not_decide_is_hashed() -> None:
    sizes = {"config.json": 10, RESHAPED: 1000, OTHER: 2000, "vocab.json": 30, "new.txt": 5}
    assert names_to_hash(sizes, source=SOURCE, existing={}) == []
    assert names_to_hash(sizes, source=SOURCE, existing=SOURCE) == []
    existing = SOURCE | {RESHAPED: RemoteFile(RESHAPED, 1000, "9" * 64, can_copy=True)}
    assert names_to_hash(sizes, source=SOURCE, existing=existing) == [RESHAPED]
    assert names_to_hash(sizes | {RESHAPED: 1008}, source=SOURCE, existing=existing) == []
    everything = ["config.json", RESHAPED, OTHER, "vocab.json"]
    assert names_to_hash(sizes, source={}, existing=SOURCE) == everything
