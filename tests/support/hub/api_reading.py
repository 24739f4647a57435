"""What the Hub's API says of a repository: each function answers one kind of request."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs

from tests.support.hub.handler import RefusedError
from tests.support.hub.store import DATE, Blob, HubStore, Request


def info(store: HubStore, request: Request) -> Any:
    repository = store.lookup(request.repo_id, token=request.token)
    commit_id = repository.find(request.parts.get("revision", "main"))
    with_blobs = "blobs" in request.query
    return {
        "id": request.repo_id,
        "modelId": request.repo_id,
        "author": request.repo_id.split("/")[0],
        "sha": commit_id,
        "private": repository.private,
        "gated": repository.gated,
        "disabled": False,
        "lastModified": DATE,
        "tags": [],
        "siblings": [
            {"rfilename": name, **(_sibling(blob) if with_blobs else {})}
            for name, blob in sorted(repository.commits[commit_id].tree.items())
        ],
    }


def list_tree(store: HubStore, request: Request) -> Any:
    tree = store.lookup(request.repo_id, token=request.token).tree(request.parts["revision"])
    below = request.parts.get("path", "")
    prefix = f"{below}/" if below else ""
    names = sorted(name for name in tree if name.startswith(prefix))
    if below and not names:
        raise RefusedError(404, f"{below} does not exist", code="EntryNotFound")
    folders = {
        "/".join(name.split("/")[:depth])
        for name in names
        for depth in range(1, name.count("/") + 1)
    }
    folders = {name for name in folders if name.startswith(prefix)}
    if request.query.get("recursive") not in (["true"], ["True"], ["1"]):
        names = [name for name in names if "/" not in name[len(prefix) :]]
        folders = {name for name in folders if "/" not in name[len(prefix) :]}
    listed = [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in folders]
    return listed + [_entry(store, name, tree[name]) for name in names]


def paths_info(store: HubStore, request: Request) -> Any:
    tree = store.lookup(request.repo_id, token=request.token).tree(request.parts["revision"])
    paths = parse_qs(request.body.decode()).get("paths", [])
    return [_entry(store, path, tree[path]) for path in paths if path in tree]


def refs(store: HubStore, request: Request) -> Any:
    repository = store.lookup(request.repo_id, token=request.token)
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_id}
        for name, commit_id in repository.branches.items()
    ]
    pulls = [
        {"name": str(number), "ref": f"refs/pr/{number}", "targetCommit": pull.head}
        for number, pull in enumerate(repository.pull_requests, 1)
    ]
    shown = {"pullRequests": pulls} if "include_prs" in request.query else {}
    return {"branches": branches, "converts": [], "tags": [], **shown}


def commits(store: HubStore, request: Request) -> Any:
    repository = store.lookup(request.repo_id, token=request.token)
    at: str | None = repository.find(request.parts["revision"])
    listed = []
    while at is not None:
        commit = repository.commits[at]
        author = {"user": "test"}
        listed.append(
            {
                "id": at,
                "title": commit.title,
                "message": "",
                "date": DATE,
                "authors": [author],
            }
        )
        at = commit.parent
    return listed


def xet_read_token(store: HubStore, request: Request) -> Any:
    store.lookup(request.repo_id, token=request.token)
    return xet_access(store)


def xet_access(store: HubStore) -> Any:
    if store.xet_endpoint is None:
        raise RefusedError(404, "there is no Xet storage here")
    expires = int(time.time()) + 3600
    return {"casUrl": store.xet_endpoint, "accessToken": "xet_token", "exp": expires}


def _entry(store: HubStore, name: str, blob: Blob) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": blob.size, "oid": blob.blob_id}
    if not blob.is_large:
        return entry
    large = {"oid": blob.sha256, "size": blob.size, "pointerSize": 130}
    xet_hash = store.xet_hash(blob.sha256)
    return entry | {"lfs": large} | ({"xetHash": xet_hash} if xet_hash else {})


def _sibling(blob: Blob) -> dict[str, Any]:
    large = {"size": blob.size, "sha256": blob.sha256, "pointerSize": 130}
    return {
        "size": blob.size,
        "blobId": blob.blob_id,
        **({"lfs": large} if blob.is_large else {}),
    }
