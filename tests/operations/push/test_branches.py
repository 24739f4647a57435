"""Pushes to branches of the source and to pull requests build on the commit that was converted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from conv2linear.errors import Conv2LinearError, HubError
from conv2linear.operations.convert import convert
from conv2linear.operations.push import plan_push, push
from tests.operations.push.pushes import (
    CHANGED,
    RESHAPED,
    commit_meanwhile,
    convert_own,
    shard_bytes,
    writes,
)
from tests.support.contents import read_files
from tests.support.hub.store import READER_TOKEN
from tests.support.hub.upload_server import HubUploadServer


@pytest.mark.parametrize("kind", ["full", "overlay"])
def test_a_branch_beside_the_original_starts_at_the_recorded_commit(
    hub: HubUploadServer,
    api: HfApi,
    own_source: tuple[str, str],
    full: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    name, commit_id = own_source
    out = tmp_path / "out"
    convert(name, out, revision=commit_id, changed_only=kind == "overlay")
    newer = [CommitOperationAdd("generation_config.json", b"{}\n")]
    api.create_commit(name, newer, commit_message="Newer")
    before = hub.contents(name)
    with hub.recording() as log:
        done = push(out, name, revision="linear/beside")
    assert hub.contents(name) == before
    repository = hub.repositories_by_id[name]
    assert repository.branches["linear/beside"] == done.commit_sha
    assert repository.commits[done.commit_sha].parent == commit_id
    after, original = hub.contents(name, "linear/beside"), hub.contents(name, commit_id)
    assert {file for file in after if after[file] != original.get(file)} == set(CHANGED)
    assert after.keys() - original.keys() == {"conv2linear.json"}
    assert after[RESHAPED] == (full / RESHAPED).read_bytes()
    assert done.copied_file_count == 0
    assert shard_bytes(log) == (out / RESHAPED).stat().st_size
    assert not log.of("*/lfs-files/duplicate")


def test_a_pull_request_leaves_the_branch_to_the_reviewer(
    hub: HubUploadServer, api: HfApi, own_source: tuple[str, str], tmp_path: Path, full: Path
) -> None:
    name, commit_id = own_source
    out = convert_own(own_source, tmp_path / "out")
    done = push(out, name, create_pr=True)
    assert done.is_pull_request
    assert done.url.endswith(f"/{name}/discussions/1")
    assert hub.repositories_by_id[name].branches == {"main": commit_id}
    assert hub.contents(name, "refs/pr/1")[RESHAPED] == (full / RESHAPED).read_bytes()
    api.merge_pull_request(name, 1)
    merged = hub.contents(name)
    assert merged[RESHAPED] == (full / RESHAPED).read_bytes()
    assert merged.keys() == read_files(full).keys()


def test_a_pull_request_starts_at_the_recorded_commit(
    hub: HubUploadServer, api: HfApi, own_source: tuple[str, str], tmp_path: Path
) -> None:
    name, commit_id = own_source
    out = convert_own(own_source, tmp_path / "out")
    newer = [CommitOperationAdd("generation_config.json", b"{}\n")]
    api.create_commit(name, newer, commit_message="Newer")
    push(out, name, create_pr=True)
    assert hub.repositories_by_id[name].pull_requests[0].start == commit_id
    changed = hub.contents(name, "refs/pr/1")
    assert changed["generation_config.json"] != b"{}\n"
    assert set(changed) == {*hub.contents(name, commit_id), "conv2linear.json"}


def test_anybody_may_propose_by_a_pull_request(
    hub: HubUploadServer,
    own_source: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = convert_own(own_source, tmp_path / "out")
    monkeypatch.setenv("HF_TOKEN", READER_TOKEN)
    with pytest.raises(HubError, match="may not write"):
        push(out, own_source[0])
    assert push(out, own_source[0], create_pr=True).is_pull_request
    assert hub.repositories_by_id[own_source[0]].branches == {"main": own_source[1]}


def test_a_pull_request_to_what_is_not_there_makes_no_repository(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    """A name that was mistyped is not made public by a proposal."""
    with hub.recording() as log:
        for function in (plan_push, push):
            with pytest.raises(HubError, match=f"no repository {repo_id}"):
                function(full, repo_id, create_pr=True)
    assert writes(log) == []
    assert repo_id not in hub.repositories_by_id


def test_a_pull_request_that_would_replace_somebody_elses_model_says_so(
    hub: HubUploadServer, full: Path, source: Path, repo_id: str, tmp_path: Path
) -> None:
    theirs = Path(shutil.copytree(source, tmp_path / "theirs"))
    (theirs / "config.json").write_text('{"model_type": "glm4v", "theirs": true}')
    hub.publish(repo_id, theirs)
    before = hub.contents(repo_id)
    for done in (plan_push(full, repo_id, create_pr=True), push(full, repo_id, create_pr=True)):
        (warning,) = [text for text in done.warnings if "holds another checkpoint" in text]
        assert "everybody will see the pull request" in warning
    assert hub.contents(repo_id) == before


def test_main_of_the_source_that_has_moved_on_is_an_error(
    hub: HubUploadServer, api: HfApi, own_source: tuple[str, str], tmp_path: Path
) -> None:
    out = convert_own(own_source, tmp_path / "out")
    newer = [CommitOperationAdd("generation_config.json", b"{}\n")]
    api.create_commit(own_source[0], newer, commit_message="Newer")
    before = hub.contents(own_source[0])
    with hub.recording() as log, pytest.raises(HubError, match="no longer at"):
        push(out, own_source[0])
    assert writes(log) == []
    assert hub.contents(own_source[0]) == before


def test_a_base_that_moves_during_the_push_is_an_error(
    hub: HubUploadServer,
    api: HfApi,
    own_source: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = convert_own(own_source, tmp_path / "out")
    commit_meanwhile(monkeypatch, api, own_source[0], before="preupload_lfs_files")
    with pytest.raises(HubError, match="moved on"):
        push(out, own_source[0])
    contents = hub.contents(own_source[0])
    assert contents.pop("notes.md") == b"Somebody else\n"
    assert contents == hub.contents(own_source[0], own_source[1])


@pytest.mark.parametrize("revision", ["refs/pr/1", "0" * 40])
def test_only_a_branch_is_pushed_to(full: Path, repo_id: str, revision: str) -> None:
    with pytest.raises(Conv2LinearError, match="not the name of a branch"):
        push(full, repo_id, revision=revision)
