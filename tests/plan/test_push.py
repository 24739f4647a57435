"""The decision what a push builds on and what it refuses, made without a server."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from conv2linear.errors import CheckFailedError, HubError
from conv2linear.hub.remote import Access, RemoteFile, RemoteRepository
from conv2linear.plan.push import (
    PushPlan,
    build_push_plan,
    check_published,
    choose_base,
    find_foreign_checkpoint,
    refuse_disclosure,
    refuse_stray_weights,
    split_commits,
)
from conv2linear.plan.push_inputs import Base, Destination, PushInputs, SourceAccess
from conv2linear.plan.transfer import Transfer
from conv2linear.record.converted import complete_manifest
from conv2linear.record.manifest import Manifest
from conv2linear.sources.base import Origin
from tests.plan.pushes import FULL, OTHER, OVERLAY, RESHAPED, SOURCE, plan_files

HEAD, RECORDED = "a" * 40, "0" * 40
ORIGIN = Origin("org/source", RECORDED)
NEW, BESIDE = Destination("org/new"), Destination("org/source", "linear")


def inputs_for(
    destination: Destination,
    base: Base,
    *,
    manifest: Manifest = FULL,
    existing: dict[str, RemoteFile] | None = None,
) -> PushInputs:
    return PushInputs(
        manifest=manifest,
        manifest_bytes=5,
        destination=destination,
        base=base,
        source=SOURCE,
        existing=existing or {},
        already_on_target=(),
    )


def test_deciding_needs_no_client_of_the_hub() -> None:
    program = "import sys, conv2linear.plan.push; assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("branch", ["main", "linear"])
def test_a_repository_that_does_not_exist_is_made_with_its_branch(branch: str) -> None:
    base = choose_base(Destination("org/new", branch), None, origin=ORIGIN)
    assert base == Base(None, creates_repository=True, creates_branch=branch != "main")


def test_a_push_builds_on_the_head_of_its_branch() -> None:
    remote = RemoteRepository("org/new", Access.PUBLIC, heads={"main": "b" * 40, "linear": HEAD})
    for origin in (ORIGIN, None):
        base = choose_base(Destination("org/new", "linear"), remote, origin=origin)
        assert base == Base(HEAD)
    other = choose_base(Destination("org/new", "other"), remote, origin=ORIGIN)
    assert other == Base("b" * 40, creates_branch=True)


def test_in_the_repository_of_the_source_the_recorded_commit_counts() -> None:
    remote = RemoteRepository("org/new", Access.PUBLIC, heads={"main": HEAD})
    on_main = choose_base(Destination("org/source"), remote, origin=ORIGIN)
    assert on_main == Base(HEAD, recorded=RECORDED)
    beside = choose_base(BESIDE, remote, origin=ORIGIN)
    assert beside == Base(RECORDED, recorded=RECORDED, creates_branch=True)
    proposed = choose_base(Destination("org/source", create_pr=True), remote, origin=ORIGIN)
    assert proposed == Base(RECORDED, recorded=RECORDED)


@pytest.mark.parametrize("access", list(Access))
def test_the_target_lets_no_more_people_read_than_the_source(access: Access) -> None:
    source = SourceAccess("org/source", access)
    for target in Access:
        remote = RemoteRepository("org/new", target, heads={"main": HEAD})
        if target >= access:
            refuse_disclosure(NEW, remote, source=source)
        else:
            with pytest.raises(HubError, match=f"org/source is {access.label}, and org/new is"):
                refuse_disclosure(NEW, remote, source=source)
    private = replace(NEW, private=True)
    refuse_disclosure(private, None, source=source)
    if access is not Access.PUBLIC:
        with pytest.raises(HubError, match="would be public") as refused:
            refuse_disclosure(NEW, None, source=source)
        assert "--private" in (refused.value.hint or "")


def test_a_source_that_cannot_be_seen_may_be_private() -> None:
    unseen = SourceAccess("org/source", None)
    refuse_disclosure(replace(NEW, private=True), None, source=unseen)
    for target in (Access.PUBLIC, Access.GATED, Access.APPROVED):
        remote = RemoteRepository("org/new", target, heads={})
        with pytest.raises(HubError, match="may be private"):
            refuse_disclosure(NEW, remote, source=unseen)


def test_a_branch_of_the_source_is_as_private_as_the_source() -> None:
    """Also where the user writes another name of the repository that the Hub still accepts."""
    remote = RemoteRepository("org/Source", Access.GATED, heads={})
    for written in ("org/source", "org/old-name"):
        refuse_disclosure(
            Destination(written), remote, source=SourceAccess("org/Source", Access.APPROVED)
        )


def test_a_base_that_cannot_be_is_refused() -> None:
    public = RemoteRepository("org/new", Access.PUBLIC, heads={"main": HEAD})
    with pytest.raises(HubError, match="is public"):
        choose_base(Destination("org/new", private=True), public, origin=None)
    private = replace(public, access=Access.PRIVATE)
    assert choose_base(Destination("org/new", private=True), private, origin=None) == Base(HEAD)
    with pytest.raises(HubError, match="no branch 'main'"):
        choose_base(NEW, replace(public, heads={}), origin=None)


def test_a_branch_of_the_source_that_has_moved_on_is_refused_if_something_changes() -> None:
    destination = Destination("org/source")
    moved = inputs_for(destination, Base(HEAD, recorded=RECORDED), existing=SOURCE)
    with pytest.raises(HubError, match="no longer at"):
        build_push_plan(moved)
    pushed = ("config.json", "conv2linear.json", RESHAPED)
    existing = SOURCE | {name: RemoteFile(name, 1, "any", can_copy=True) for name in pushed}
    again = replace(moved, existing=existing, already_on_target=pushed)
    assert build_push_plan(again).pending == ()


def test_what_the_server_refuses_to_copy_is_planned_again_as_an_upload() -> None:
    inputs = inputs_for(NEW, Base(None, creates_repository=True))
    first, second = build_push_plan(inputs), build_push_plan(inputs, copyable=False)
    assert first.copied_file_count == 1
    assert (second.copied_file_count, second.copied_bytes) == (0, 0)
    assert second == replace(first, operations=second.operations)
    assert second.uploaded_bytes == first.uploaded_bytes + first.copied_bytes
    assert build_push_plan(inputs) == first


def test_a_proposal_may_replace_another_checkpoint_and_not_stand_beside_its_weights() -> None:
    existing = {"config.json": RemoteFile("config.json", 1, "git:any", can_copy=False)}
    inputs = inputs_for(NEW, Base(HEAD), existing=existing)
    with pytest.raises(HubError, match="another checkpoint"):
        build_push_plan(inputs)
    proposed = replace(inputs, destination=replace(NEW, create_pr=True))
    assert build_push_plan(proposed).create_pr
    stray = {"model.safetensors": RemoteFile("model.safetensors", 1, "any", can_copy=True)}
    with pytest.raises(HubError, match="not part of this checkpoint"):
        build_push_plan(replace(proposed, existing=existing | stray))


def test_a_plan_is_data_with_its_bytes() -> None:
    values = build_push_plan(inputs_for(NEW, Base(None, creates_repository=True))).to_dict()
    assert values["operations"][0]["kind"] == "upload"
    assert (values["uploaded_bytes"], values["copied_bytes"]) == (20 + 5 + 1000 + 30, 2000)
    assert (values["downloaded_bytes"], values["copied_file_count"]) == (0, 1)


def test_portions_hold_every_file_once_in_order() -> None:
    assert split_commits("abcdefg", max_files=3) == ["abc", "def", "g"]
    assert split_commits("abc", max_files=3) == ["abc"]


def published() -> tuple[PushPlan, dict[str, str], dict[str, RemoteFile]]:
    """Return a plan, what was uploaded for it, and the files that the target should have."""
    plan = build_push_plan(inputs_for(NEW, Base(None, creates_repository=True)))
    sent = {o.name: f"new {o.name}" for o in plan.pending if o.kind is Transfer.UPLOAD}
    after = {name: RemoteFile(name, 1, content, can_copy=True) for name, content in sent.items()}
    return plan, sent, after | {OTHER: SOURCE[OTHER]}


def test_a_target_that_holds_what_was_planned_passes() -> None:
    plan, sent, after = published()
    notes = {"notes.md": RemoteFile("notes.md", 1, "git:notes", can_copy=False)}
    check_published(plan, sent=sent, before={}, after=after)
    check_published(plan, sent=sent, before=notes, after=after | notes)


@pytest.mark.parametrize("name", ["config.json", OTHER, "notes.md"])
@pytest.mark.parametrize("fault", ["lost", "changed"])
def test_a_target_that_holds_anything_else_is_found_out(name: str, fault: str) -> None:
    plan, sent, after = published()
    before = {"notes.md": RemoteFile("notes.md", 1, "git:notes", can_copy=False)}
    after |= before
    if fault == "lost":
        del after[name]
    else:
        after[name] = replace(after[name], content_id="other")
    with pytest.raises(CheckFailedError, match=name):
        check_published(plan, sent=sent, before=before, after=after)


def test_a_file_of_somebody_else_in_the_commit_is_found_out() -> None:
    plan, sent, after = published()
    extra = {"notes.md": RemoteFile("notes.md", 1, "git:notes", can_copy=False)}
    with pytest.raises(CheckFailedError, match=r"notes\.md"):
        check_published(plan, sent=sent, before={}, after=after | extra)


def test_bytes_are_counted_where_they_move() -> None:
    operations = tuple(plan_files(OVERLAY).values())
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
    operations = tuple(plan_files(FULL).values())
    for name in ("model.safetensors", "model.safetensors.index.json"):
        base = {name: RemoteFile(name, 1, "any", can_copy=True)}
        with pytest.raises(HubError, match="not part of this checkpoint"):
            refuse_stray_weights(operations, base, label="org/new")
    harmless = dict.fromkeys(("notes.md", "onnx/model.safetensors"), SOURCE["vocab.json"])
    refuse_stray_weights(operations, harmless, label="org/new")


def foreign(existing: dict[str, RemoteFile], theirs: Manifest | None) -> str | None:
    inputs = inputs_for(NEW, Base(HEAD), existing=existing)
    operations = tuple(plan_files(FULL, existing=existing).values())
    return find_foreign_checkpoint(operations, replace(inputs, existing_manifest=theirs))


@pytest.mark.parametrize("name", ["config.json", "conv2linear.json", OTHER])
def test_a_checkpoint_from_elsewhere_is_not_replaced(name: str) -> None:
    existing = {name: RemoteFile(name, 1, "git:any", can_copy=False)}
    assert "another checkpoint" in (foreign(existing, None) or "")
    assert foreign(existing, FULL) is None
    assert foreign({}, None) is None


def test_another_model_is_not_replaced_and_another_commit_of_the_same_is() -> None:
    existing = {"config.json": RemoteFile("config.json", 1, "git:any", can_copy=False)}
    newer = replace(FULL, source=Origin("Org/Source", "1" * 40), tool="1")
    assert foreign(existing, newer) is None
    for theirs in (
        replace(FULL, source=Origin("org/other", RECORDED)),
        replace(FULL, model_type="glm4v_moe"),
        replace(FULL, source=None),
    ):
        assert "another model" in (foreign(existing, theirs) or "")


def test_the_record_of_an_overlay_becomes_that_of_the_whole() -> None:
    assert complete_manifest(OVERLAY) == FULL
