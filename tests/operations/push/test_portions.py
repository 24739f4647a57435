"""A push of more files than a commit takes changes the branch once, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from conv2linear.errors import CheckFailedError, HubError
from tests.operations.push.pushes import commit_meanwhile, push_in_portions
from tests.support.contents import read_files
from tests.support.hub.exchanges import Fault
from tests.support.hub.upload_server import HubUploadServer


@pytest.mark.parametrize(("branch", "status"), [(None, "open"), ("linear", "draft")])
def test_a_large_commit_is_split_and_the_branch_changes_once(
    hub: HubUploadServer,
    full: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
    branch: str | None,
    status: str,
) -> None:
    monkeypatch.setattr(hub, "pull_request_status", status)
    with hub.recording() as log:
        done = push_in_portions(full, repo_id, branch=branch)
    assert len(log.of("*/commit/*", "POST")) == 4  # 16 files
    assert hub.contents(repo_id, branch or "main") == read_files(full)
    assert not done.is_pull_request
    repository = hub.repositories_by_id[repo_id]
    first = repository.commits[done.commit_sha].parent
    assert first is not None
    assert set(repository.commits[first].tree) == {".gitattributes"}
    assert [pull.status for pull in repository.pull_requests] == ["merged"]


def test_a_large_pull_request_waits_for_the_reviewer(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    assert push_in_portions(full, repo_id, create_pr=True).is_pull_request
    assert set(hub.contents(repo_id)) == {".gitattributes"}
    assert hub.contents(repo_id, "refs/pr/1") == read_files(full)
    assert hub.repositories_by_id[repo_id].pull_requests[0].status == "open"


def test_a_split_push_that_fails_leaves_the_branch_as_it_was(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    fault = Fault(f"*/{repo_id}/commit/refs/pr/1", status=500, times=1)
    with hub.misbehaving(fault), pytest.raises(HubError, match="500"):
        push_in_portions(full, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes"}
    assert [p.status for p in hub.repositories_by_id[repo_id].pull_requests] == ["closed"]
    push_in_portions(full, repo_id)
    assert hub.contents(repo_id) == read_files(full)


def test_a_split_push_is_not_merged_onto_a_base_that_moved(
    hub: HubUploadServer,
    api: HfApi,
    full: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api.create_repo(repo_id)
    commit_meanwhile(monkeypatch, api, repo_id, before="preupload_lfs_files")
    with pytest.raises(HubError, match="no longer at"):
        push_in_portions(full, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes", "notes.md"}
    assert [p.status for p in hub.repositories_by_id[repo_id].pull_requests] == ["closed"]


def test_a_commit_of_the_last_moment_is_found_after_the_merge(
    api: HfApi, full: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create_repo(repo_id)
    commit_meanwhile(monkeypatch, api, repo_id, before="merge_pull_request")
    with pytest.raises(CheckFailedError, match=r"notes\.md"):
        push_in_portions(full, repo_id)
