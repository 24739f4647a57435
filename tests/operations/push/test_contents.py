"""What a push leaves on the Hub is the checkpoint, byte for byte, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download

from conv2linear.operations.push import plan_push, push
from conv2linear.operations.restore import restore
from conv2linear.operations.verify.verify import verify
from conv2linear.plan.transfer import Transfer
from tests.operations.push.pushes import (
    CHANGED,
    RESHAPED,
    SOURCE,
    opened_shards,
    shard_bytes,
    writes,
)
from tests.support import load_in_transformers
from tests.support.contents import read_files
from tests.support.hub.upload_server import HubUploadServer


def test_a_whole_checkpoint_arrives_byte_for_byte(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    with hub.recording() as log:
        done = push(full, repo_id)
    assert hub.contents(repo_id) == read_files(full)
    assert shard_bytes(log) == (full / RESHAPED).stat().st_size
    assert len(log.of("*/commit/*", "POST")) == 1
    repository = hub.repositories_by_id[repo_id]
    assert repository.branches == {"main": done.commit_sha}
    assert done.url.endswith(f"/{repo_id}/commit/{done.commit_sha}")
    shards = [name for name in read_files(full) if name.endswith("safetensors")]
    copied = [name for name in shards if name != RESHAPED]
    assert sorted(o.name for o in done.operations if o.kind is Transfer.COPY) == sorted(copied)
    assert done.copied_file_count == len(copied) == 8
    assert done.copied_bytes == sum((full / name).stat().st_size for name in copied)


def test_an_overlay_gives_the_same_repository_as_the_whole_checkpoint(
    hub: HubUploadServer, full: Path, overlay: Path, repo_id: str
) -> None:
    assert set(read_files(overlay)) == set(CHANGED)
    with hub.recording() as log:
        push(overlay, repo_id)
    assert hub.contents(repo_id) == read_files(full)
    assert shard_bytes(log) == (overlay / RESHAPED).stat().st_size
    assert log.sent_bytes("*.safetensors") == 0


@pytest.mark.parametrize("kind", ["full", "overlay"])
def test_a_pushed_repository_downloaded_by_the_real_client_is_sound(
    hub: HubUploadServer,
    source: Path,
    repo_id: str,
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    push(request.getfixturevalue(kind), repo_id)
    folder = Path(snapshot_download(repo_id, local_dir=tmp_path / "local"))
    shutil.rmtree(folder / ".cache")
    verification = verify(folder, source="recorded", checksums=True)
    assert verification.passed, verification.failed
    assert {check.outcome for check in verification.checks} == {"pass"}
    loaded = load_in_transformers.load(folder, tmp_path / "result.safetensors")
    assert (loaded.missing, loaded.unexpected, loaded.mismatched) == ([], [], [])
    assert loaded.projection == "model.visual.patch_embed.linear_proj"
    assert loaded.projection_is_the_file
    restore(folder, tmp_path / "restored")
    assert read_files(tmp_path / "restored") == read_files(source)


@pytest.mark.parametrize("kind", ["full", "overlay"])
def test_a_dry_run_sends_nothing(
    hub: HubUploadServer, kind: str, repo_id: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    with hub.recording() as log:
        plan = plan_push(folder, repo_id)
    assert {exchange.method for exchange in log} == {"GET"}
    assert log.received_bytes() == 0
    assert repo_id not in hub.repositories_by_id
    done = push(folder, repo_id)
    assert (plan.uploaded_bytes, plan.copied_bytes) == (done.uploaded_bytes, done.copied_bytes)
    assert plan.operations == done.operations


def test_no_shard_is_read_to_know_that_it_was_reshaped(full: Path, repo_id: str) -> None:
    with opened_shards() as opened:
        plan_push(full, repo_id)
        plan_push(full, SOURCE, revision="linear")
    assert opened == []
    push(full, repo_id)
    with opened_shards() as opened:
        plan_push(full, repo_id)
    assert opened == [RESHAPED]


def test_a_second_push_changes_nothing(
    hub: HubUploadServer, full: Path, overlay: Path, repo_id: str
) -> None:
    first = push(full, repo_id)
    for folder in (full, overlay):
        with hub.recording() as log:
            again = push(folder, repo_id)
        assert writes(log) == []
        assert {operation.kind for operation in again.operations} == {Transfer.KEEP}
        assert again.commit_sha == first.commit_sha
    assert not push(full, repo_id, create_pr=True).is_pull_request


def test_what_was_there_and_is_not_planned_stays(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    own = {"notes.md": b"mine\n", "onnx/model.safetensors": b"x" * 2000, ".gitignore": b"*.json\n"}
    additions = [CommitOperationAdd(name, content) for name, content in own.items()]
    api.create_commit(repo_id, additions, commit_message="Mine")
    push(full, repo_id)
    contents = hub.contents(repo_id)
    assert contents == read_files(full) | own


def test_a_new_repository_is_private_if_asked(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    push(full, repo_id, private=True)
    assert hub.repositories_by_id[repo_id].private
    push(full, repo_id, private=True)
