"""A Hub that answers a push oddly: one line of error, in bounded time, and the branch as it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from conv2linear import HubError, push
from conv2linear.hub.commit import CommitMessage, Proposal, Published
from conv2linear.hub.target import HubTarget
from conv2linear.hub.writing import WritePatience
from tests.operations.push.pushes import push_in_portions
from tests.support.hub.exchanges import Fault
from tests.support.hub.upload_server import HubUploadServer

HTML = b"<!doctype html><title>Welcome to our network</title>"
BODIES = (HTML, b"", b"null", b"[]", b"3", b"{}", b"[" * 200_000)
SHORT = WritePatience(silence_s=0.5, pause_s=0.5, conflicts=2, merge_pauses_s=(0.1, 0.1))
MESSAGE = CommitMessage("title", "description")


def refuse(function: Callable[[], object]) -> str:
    began = time.monotonic()
    with pytest.raises(HubError) as refused:
        function()
    assert time.monotonic() - began < 30
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000
    return str(refused.value)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:9]))
@pytest.mark.parametrize("path", ["*/preupload/*", "/*.git/info/lfs/objects/batch"])
def test_before_the_commit(
    hub: HubUploadServer, full: Path, repo_id: str, path: str, body: bytes
) -> None:
    with hub.misbehaving(Fault(path, body=body)):
        refuse(lambda: push(full, repo_id))
    assert set(hub.contents(repo_id)) == {".gitattributes"}


@pytest.mark.parametrize(
    "body",
    [
        *BODIES,
        b'{"commitOid": null, "commitUrl": "x"}',
        b'{"commitOid": "abc", "commitUrl": "http://h/a/b/commit/abc"}',
        b'{"commitUrl": 3, "commitOid": "' + b"0" * 40 + b'"}',
    ],
    ids=lambda body: repr(body[:30]),
)
@pytest.mark.parametrize("create_pr", [False, True])
def test_of_the_commit(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str, body: bytes, create_pr: bool
) -> None:
    api.create_repo(repo_id)
    with hub.misbehaving(Fault(f"*/{repo_id}/commit/*", body=body)):
        refuse(lambda: push(full, repo_id, create_pr=create_pr))
    assert set(hub.contents(repo_id)) == {".gitattributes"}


@pytest.mark.parametrize("url", [b"null", b"3", b'"x"', b'"http://h/a/b/discussions/none"'])
def test_a_pull_request_without_a_number(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str, url: bytes
) -> None:
    api.create_repo(repo_id)
    commit = b'"commitOid": "' + b"0" * 40 + b'", "commitUrl": "http://h/a/b/commit/x"'
    body = b"{" + commit + b', "pullRequestUrl": ' + url + b"}"
    with hub.misbehaving(Fault(f"*/{repo_id}/commit/*", body=body)):
        refuse(lambda: push(full, repo_id, create_pr=True))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:9]))
@pytest.mark.parametrize("path", ["discussions/1", "refs"])
def test_of_the_pull_request_that_is_to_be_merged(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str, path: str, body: bytes
) -> None:
    """The answer to the attempt to close it may be as odd: the first error is the one to know."""
    api.create_repo(repo_id)
    odd = [Fault(f"*/{repo_id}/discussions/1/status", body=body)]
    passed = [Fault(f"*/{repo_id}/{path}", times=1 if path == "refs" else 0)]
    with hub.misbehaving(*passed, Fault(f"*/{repo_id}/{path}", body=body), *odd):
        refuse(lambda: push_in_portions(full, repo_id))
    assert set(hub.contents(repo_id)) == {".gitattributes"}


def test_a_merge_that_never_ends(hub: HubUploadServer, api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    target = HubTarget(repo_id, "main", patience=SHORT)
    details = (
        b'{"num": 1, "title": "", "status": "open", "isPullRequest": true, "events": [], '
        b'"createdAt": "2024-01-01T00:00:00.000Z", "author": {"name": "a"}, "diff": "", '
        b'"repo": {"name": "a/b", "type": "model"}, "filesWithConflicts": [], '
        b'"changes": {"base": "refs/heads/main"}}'
    )
    faults = [Fault("*/discussions/1", body=details), Fault("*/discussions/1/merge", body=b"{}")]
    with hub.misbehaving(*faults):
        said = refuse(lambda: target.merge(Proposal(1, Published("0" * 40, "url"))))
    assert "merged" in said


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/api/repos/create", delay_s=2),
        Fault("/api/repos/create", status=503, headers=(("retry-after", "86400"),)),
        Fault(
            "/api/repos/create",
            status=409,
            body=b"Cannot create repo: another conflicting operation is in progress",
        ),
        Fault("/api/repos/create", body=HTML),
    ],
    ids=["silent", "busy", "conflict", "html"],
)
def test_a_repository_that_is_not_made(hub: HubUploadServer, repo_id: str, fault: Fault) -> None:
    target = HubTarget(repo_id, "main", patience=SHORT)
    with hub.misbehaving(fault):
        refuse(lambda: target.create_repository(private=False))


@pytest.mark.parametrize("path", ["*/preupload/*", "/lfs/*", "*/commit/*"])
def test_a_hub_that_asks_for_more_patience_than_there_is(
    hub: HubUploadServer, full: Path, repo_id: str, path: str
) -> None:
    busy = Fault(path, status=429, headers=(("retry-after", "86400"),))
    with hub.misbehaving(busy):
        said = refuse(lambda: push(full, repo_id))
    assert "86400" in said or "429" in said


def test_of_the_look_at_the_target(hub: HubUploadServer, api: HfApi, repo_id: str) -> None:
    api.create_repo(repo_id)
    for path in (f"/api/models/{repo_id}", f"/api/models/{repo_id}/refs"):
        for body in BODIES:
            with hub.misbehaving(Fault(path, body=body)):
                refuse(HubTarget(repo_id, "main").look)


def test_of_a_small_file_of_the_target(hub: HubUploadServer, full: Path, repo_id: str) -> None:
    commit = push(full, repo_id).commit_sha
    assert commit
    target = HubTarget(repo_id, "main", patience=SHORT)
    file = target.list_files(commit)["config.json"]
    assert target.read_file(file, commit) == (full / "config.json").read_bytes()
    with hub.misbehaving(Fault("*/resolve/*/config.json", flip_byte=file.size_bytes - 1)):
        said = refuse(lambda: target.read_file(file, commit))
    assert "config.json is not what it lists" in said
    with hub.misbehaving(Fault("*/resolve/*/config.json", body=HTML)):
        refuse(lambda: target.read_file(file, commit))
