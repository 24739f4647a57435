"""Commits, branches and pull requests change what they are meant to, and only for those who may."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub.first_commit import CONFIG, CONTENT, SHARD, add, create
from tests.support.hub.store import READER_TOKEN
from tests.support.hub.upload_server import HubUploadServer


def test_a_private_source_is_not_there_for_others(hub: HubUploadServer, api: HfApi) -> None:
    api.create_repo("org/source", private=True)
    reader = HfApi(endpoint=hub.endpoint, token=READER_TOKEN)
    with pytest.raises(RepositoryNotFoundError):
        reader.model_info("org/source")
    assert api.model_info("org/source").private


@pytest.mark.parametrize(
    ("token", "status"), [(READER_TOKEN, 403), (False, 401), ("hf_unknown", 401)]
)
def test_only_the_owner_writes(
    hub: HubUploadServer, api: HfApi, token: str | bool, status: int
) -> None:
    create(api)
    before = hub.contents("org/new")
    stranger = HfApi(endpoint=hub.endpoint, token=token)
    with pytest.raises(HfHubHTTPError) as commit:
        stranger.create_commit("org/new", add(config=b"{}"), commit_message="Not mine")
    with pytest.raises(HfHubHTTPError) as creation:
        stranger.create_repo("org/other")
    assert {e.value.response.status_code for e in (commit, creation)} == {status}
    assert hub.contents("org/new") == before


def test_a_stranger_proposes_only_by_name(hub: HubUploadServer, api: HfApi) -> None:
    create(api)

    def propose(token: str | bool) -> None:
        stranger = HfApi(endpoint=hub.endpoint, token=token)
        stranger.create_commit(
            "org/new", add(config=b"{}"), commit_message="Propose", create_pr=True
        )

    with pytest.raises(HfHubHTTPError):
        propose(False)
    propose(READER_TOKEN)
    assert len(hub.repositories_by_id["org/new"].pull_requests) == 1


def test_what_is_there_is_not_created_again(api: HfApi) -> None:
    create(api)
    api.create_branch("org/new", branch="linear")
    for attempt in (
        lambda: api.create_repo("org/new"),
        lambda: api.create_branch("org/new", branch="linear"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            attempt()
        assert refused.value.response.status_code == 409


def test_a_commit_on_a_parent_that_has_moved_is_refused(hub: HubUploadServer, api: HfApi) -> None:
    parent = create(api)
    api.create_commit("org/new", add(config=b"[]"), commit_message="Someone else")
    before = hub.contents("org/new")
    for stale in (parent, "0" * 40):
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_commit(
                "org/new", add(config=b"{}"), commit_message="Late", parent_commit=stale
            )
        assert refused.value.response.status_code == 412
    assert hub.contents("org/new") == before


def test_a_pull_request_from_an_unknown_parent_is_refused(api: HfApi) -> None:
    create(api)
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(
            "org/new",
            add(config=b"{}"),
            commit_message="From nowhere",
            parent_commit="0" * 40,
            create_pr=True,
        )


def test_a_branch_starts_at_the_commit_that_it_is_given(hub: HubUploadServer, api: HfApi) -> None:
    first = create(api)
    api.create_commit("org/new", add(config=b"[]"), commit_message="Newer")
    api.create_branch("org/new", branch="linear/beside", revision=first)
    assert hub.contents("org/new", "linear/beside")["config.json"] == CONFIG
    assert api.model_info("org/new", revision="linear/beside").sha == first
    refs = api.list_repo_refs("org/new")
    assert {ref.name: ref.target_commit for ref in refs.branches}["linear/beside"] == first
    with pytest.raises(RevisionNotFoundError):
        api.create_branch("org/new", branch="other", revision="0" * 40)


def test_a_pull_request_changes_its_branch_when_it_is_merged(
    hub: HubUploadServer, api: HfApi, tmp_path: Path
) -> None:
    first = create(api)
    proposed = api.create_commit(
        "org/new", add(config=b"{}"), commit_message="Propose", create_pr=True
    )
    assert (proposed.pr_revision, proposed.pr_num) == ("refs/pr/1", 1)
    more = [CommitOperationAdd("README.md", b"---\ntags: []\n---\nHello\n")]
    api.create_commit("org/new", more, commit_message="More", revision="refs/pr/1")
    assert hub.contents("org/new")["config.json"] == CONFIG
    path = api.hf_hub_download("org/new", "README.md", revision="refs/pr/1", local_dir=tmp_path)
    assert Path(path).read_text().endswith("Hello\n")
    assert api.get_discussion_details("org/new", 1).status == "open"
    api.merge_pull_request("org/new", 1)
    details = api.get_discussion_details("org/new", 1)
    assert (details.status, details.target_branch) == ("merged", "refs/heads/main")
    assert api.model_info("org/new").sha == details.merge_commit_oid
    merged = hub.contents("org/new")
    assert merged["config.json"] == b"{}"
    assert merged[SHARD] == CONTENT
    assert [commit.commit_id for commit in api.list_repo_commits("org/new")][1] == first


def test_a_pull_request_that_conflicts_or_is_closed_is_not_merged(api: HfApi) -> None:
    create(api)
    for text in (b"{}", b"[]"):
        api.create_commit("org/new", add(config=text), commit_message="Propose", create_pr=True)
    api.merge_pull_request("org/new", 1)
    assert api.get_discussion_details("org/new", 2).conflicting_files == ["config.json"]
    with pytest.raises(HfHubHTTPError, match="conflicts"):
        api.merge_pull_request("org/new", 2)
    readme = [CommitOperationAdd("README.md", b"Hello\n")]
    api.create_commit("org/new", readme, commit_message="Propose", create_pr=True)
    api.change_discussion_status("org/new", 3, "closed")
    with pytest.raises(HfHubHTTPError, match="closed cannot be merged"):
        api.merge_pull_request("org/new", 3)
    api.change_discussion_status("org/new", 3, "open")
    api.merge_pull_request("org/new", 3)
