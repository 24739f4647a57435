"""How a Hub commits what came, and how pull requests are read, closed and merged."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from tests.support.hub.api_uploading import MAX_REGULAR_BYTES, lfs_patterns, matches
from tests.support.hub.git_store import lfs_pointer
from tests.support.hub.handler import RefusedError
from tests.support.hub.store import (
    DATE,
    Blob,
    HubStore,
    PullRequest,
    Repository,
    Request,
    Tree,
    git_hash,
)


def commit(store: HubStore, request: Request) -> Any:
    lines = [json.loads(line) for line in request.body.splitlines()]
    header, changes = lines[0]["value"], lines[1:]
    revision, parent = request.parts["revision"], header.get("parentCommit")
    proposing = request.query.get("create_pr") == ["1"]
    repository = store.writable(request.repo_id, token=request.token, proposing=proposing)
    pull = repository.pull_request(revision)
    if pull is None and revision not in repository.branches:
        raise RefusedError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
    head = repository.find(revision)
    if proposing and parent is not None:
        head = repository.find(parent)
    elif parent not in (None, head):
        raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
    tree = dict(repository.commits[head].tree)
    for change in changes:
        if fnmatchcase(change["value"]["path"], request.fault.lost_file or ""):
            continue
        _apply(store, change, tree=tree, repository=repository)
    if store.extends_attributes:
        large = [change["value"]["path"] for change in changes if change["key"] == "lfsFile"]
        _cover_large_files(store, large, tree=tree)
    commit_id = repository.add_commit(tree, parent=head, title=header["summary"])
    answer = {
        "success": True,
        "commitOid": commit_id,
        "commitUrl": f"{store.endpoint}/{request.repo_id}/commit/{commit_id}",
    }
    if proposing:
        repository.pull_requests.append(
            PullRequest(revision, head, commit_id, header["summary"], store.pull_request_status)
        )
        number = len(repository.pull_requests)
        answer["pullRequestUrl"] = f"{store.endpoint}/{request.repo_id}/discussions/{number}"
    elif pull is not None:
        pull.head = commit_id
    else:
        repository.branches[revision] = commit_id
    return answer


def _cover_large_files(store: HubStore, names: Iterable[str], *, tree: Tree) -> None:
    attributes = store.read_text(tree.get(".gitattributes"))
    bare = [name for name in names if not matches(name, lfs_patterns(attributes))]
    if bare:
        rules = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in bare)
        tree[".gitattributes"] = store.add_blob((attributes + rules).encode(), is_large=False)


def _apply(store: HubStore, change: Any, *, tree: Tree, repository: Repository) -> None:
    kind, value = change["key"], change["value"]
    name = value["path"]
    if kind == "file":
        content = base64.b64decode(value["content"])
        if len(content) > MAX_REGULAR_BYTES:
            raise RefusedError(400, f"{name} is too large for a regular file")
        tree[name] = store.add_blob(content, is_large=False)
    elif kind == "lfsFile":
        oid = value["oid"]
        size = store.object_bytes(repository, oid)
        if size is None:
            raise RefusedError(400, f"{name} points to an LFS object that does not exist: {oid}")
        repository.objects.add(oid)
        tree[name] = Blob(oid, size, git_hash(lfs_pointer(oid, size)), is_large=True)
    elif kind == "deletedFile":
        if tree.pop(name, None) is None:
            message = f"A file with this name doesn't exist: {name}"
            raise RefusedError(404, message, code="EntryNotFound")
    else:
        raise RefusedError(400, f"{kind} is not known here")


def pull_request(store: HubStore, request: Request) -> Any:
    repository = store.lookup(request.repo_id, token=request.token)
    pull = _pull_of(repository, request)
    return {
        "num": int(request.parts["number"]),
        "title": pull.title,
        "status": pull.status,
        "isPullRequest": True,
        "createdAt": DATE,
        "author": {"name": "test"},
        "repo": {"name": request.repo_id, "type": "model"},
        "events": [],
        "changes": {"base": f"refs/heads/{pull.base}", "mergeCommitId": pull.merge_commit},
        "filesWithConflicts": _conflicts(repository, pull),
        "diff": "",
    }


def change_status(store: HubStore, request: Request) -> Any:
    pull = _pull_of(store.writable(request.repo_id, token=request.token), request)
    if pull.status == "merged":
        raise RefusedError(400, "A merged pull request stays merged")
    pull.status = request.json["status"]
    status = {
        "id": "1",
        "type": "status-change",
        "createdAt": DATE,
        "author": {"name": "test"},
    }
    return {"newStatus": status | {"data": {"status": pull.status}}}


def merge(store: HubStore, request: Request) -> Any:
    repository = store.writable(request.repo_id, token=request.token)
    pull = _pull_of(repository, request)
    if pull.status != "open":
        raise RefusedError(400, f"A pull request that is {pull.status} cannot be merged")
    if _conflicts(repository, pull):
        raise RefusedError(409, "This pull request has conflicts with its base")
    head = repository.branches[pull.base]
    tree = repository.commits[head].tree | _changes(repository, pull)
    pull.merge_commit = repository.add_commit(tree, parent=head, title=pull.title)
    repository.branches[pull.base] = pull.merge_commit
    pull.status = "merged"
    return {}


def _pull_of(repository: Repository, request: Request) -> PullRequest:
    pull = repository.pull_request(f"refs/pr/{request.parts['number']}")
    if pull is None:
        raise RefusedError(404, "Discussion not found")
    return pull


def _changes(repository: Repository, pull: PullRequest) -> Tree:
    start, head = repository.commits[pull.start].tree, repository.commits[pull.head].tree
    return {name: blob for name, blob in head.items() if start.get(name) != blob}


def _conflicts(repository: Repository, pull: PullRequest) -> list[str]:
    start, base = repository.commits[pull.start].tree, repository.tree(pull.base)
    changed = _changes(repository, pull)
    return [name for name in changed if base.get(name) not in (start.get(name), changed[name])]
