"""What only some may read on the Hub does not become readable to more by a push."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from conv2linear import HubError, plan_push, push
from tests.operations.push.pushes import SOURCE, writes
from tests.support.contents import read_files
from tests.support.hub.exchanges import Fault
from tests.support.hub.upload_server import HubUploadServer

RESTRICTIONS = [(True, False), (False, "auto"), (False, "manual"), (True, "manual")]


def restrict(
    monkeypatch: pytest.MonkeyPatch,
    hub: HubUploadServer,
    name: str,
    *,
    private: bool = False,
    gated: bool | str = False,
) -> None:
    repository = hub.repositories_by_id[name]
    monkeypatch.setattr(repository, "private", private)
    monkeypatch.setattr(repository, "gated", gated)


@pytest.mark.parametrize(("private", "gated"), RESTRICTIONS)
@pytest.mark.parametrize("create_pr", [False, True])
def test_no_public_copy_of_a_restricted_source(
    hub: HubUploadServer,
    api: HfApi,
    full: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
    private: bool,
    gated: bool | str,
    create_pr: bool,
) -> None:
    restrict(monkeypatch, hub, SOURCE, private=private, gated=gated)
    api.create_repo(f"{repo_id}-there")
    word = "private" if private else "gated"
    with hub.recording() as log:
        for name in (repo_id, f"{repo_id}-there"):
            for function in (plan_push, push):
                with pytest.raises(HubError, match=f"{SOURCE} is {word}, and .* public") as error:
                    function(full, name, create_pr=create_pr)
                assert error.value.exit_code == 2
                assert "--private" in (error.value.hint or "")
    assert writes(log) == []
    assert repo_id not in hub.repositories_by_id


@pytest.mark.parametrize(("private", "gated"), RESTRICTIONS)
def test_a_private_copy_of_a_restricted_source_is_right(
    hub: HubUploadServer,
    full: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
    private: bool,
    gated: bool | str,
) -> None:
    restrict(monkeypatch, hub, SOURCE, private=private, gated=gated)
    push(full, repo_id, private=True)
    assert hub.repositories_by_id[repo_id].private
    assert hub.contents(repo_id) == read_files(full)
    push(full, repo_id)  # it is private already
    restrict(monkeypatch, hub, repo_id, gated="auto")
    if private or gated == "manual":  # and now more may read it than the source
        with pytest.raises(HubError, match=f"{repo_id} is gated"):
            push(full, repo_id)


def test_a_branch_of_a_restricted_source_is_right(
    hub: HubUploadServer, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restrict(monkeypatch, hub, SOURCE, private=True)
    assert push(full, SOURCE, revision="linear-in-private").commit_sha


def test_a_source_that_cannot_be_seen_any_more_may_be_private(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    gone = Fault(f"/api/models/{SOURCE}*", status=404, headers=(("x-error-code", "RepoNotFound"),))
    with hub.misbehaving(gone):
        with hub.recording() as log, pytest.raises(HubError, match="may be private"):
            push(full, repo_id)
        assert writes(log) == []
        push(full, repo_id, private=True)
    assert hub.contents(repo_id) == read_files(full)


def test_an_answer_that_does_not_say_who_may_read_is_not_taken_for_public(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    for body in (b"{}", b'"private": "no"', b'"private": false, "gated": "soon"'):
        sha = b'{"sha": "' + b"0" * 40 + b'"'
        answer = sha + (b"}" if body == b"{}" else b", " + body + b"}")
        with (
            hub.misbehaving(Fault(f"/api/models/{SOURCE}", body=answer)),
            pytest.raises(HubError, match="may be private"),
        ):
            push(full, repo_id)
    assert repo_id not in hub.repositories_by_id


def test_nothing_is_sent_to_a_new_repository_that_is_not_private_as_asked(
    hub: HubUploadServer, full: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = HfApi.create_repo
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, name, private: create(self, name, private=None)
    )
    with pytest.raises(HubError, match="was to be private"):
        push(full, repo_id, private=True)
    assert set(hub.contents(repo_id)) == {".gitattributes"}
