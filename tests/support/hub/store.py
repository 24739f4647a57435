"""What a Hub that accepts uploads keeps: content by its SHA-256, and repositories in memory."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.hub.exchanges import Fault
from tests.support.hub.git_store import lfs_pointer
from tests.support.hub.handler import RefusedError

OWNER_TOKEN = "hf_owner"  # may write everything
READER_TOKEN = "hf_reader"  # may read what is public
DATE = "2024-01-01T00:00:00.000Z"  # when everything happened


@dataclass(frozen=True)
class Request:
    """What an answer depends on: the parts of the path, the query, the body, who asks, a fault."""

    parts: Mapping[str, str]
    query: Mapping[str, list[str]]
    body: bytes
    token: str | None
    fault: Fault

    @property
    def repo_id(self) -> str:
        return self.parts["repo_id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"null")


@dataclass(frozen=True)
class Blob:
    """A file at a commit. `blob_id` is what git calls its content, or the pointer to it."""

    sha256: str
    size: int
    blob_id: str
    is_large: bool


Tree = dict[str, Blob]


@dataclass(frozen=True)
class Commit:
    """A tree of files, the commit before it and what was said of it."""

    tree: Tree
    parent: str | None
    title: str


@dataclass
class PullRequest:
    """Commits at `refs/pr/NUM` that start at `start` and are meant for the branch `base`."""

    base: str
    start: str
    head: str
    title: str
    status: str
    merge_commit: str | None = None


@dataclass
class Repository:
    """A model repository; `objects` are the LFS objects that it may point to."""

    region: str
    private: bool
    gated: bool | str = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    pull_requests: list[PullRequest] = field(default_factory=list)
    objects: set[str] = field(default_factory=set)

    def find(self, revision: str) -> str:
        """Return the commit of a branch, a pull request or a commit id."""
        pull = self.pull_request(revision)
        if pull is not None:
            return pull.head
        if revision in self.branches:
            return self.branches[revision]
        if revision not in self.commits:
            raise RefusedError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return revision

    def pull_request(self, revision: str) -> PullRequest | None:
        """Return the pull request that a ref names, or None if it is not such a ref."""
        match = re.fullmatch(r"refs/pr/(\d+)", revision)
        if match is None or not 0 < int(match[1]) <= len(self.pull_requests):
            return None
        return self.pull_requests[int(match[1]) - 1]

    def tree(self, revision: str) -> Tree:
        """Return the files at a revision."""
        return self.commits[self.find(revision)].tree

    def add_commit(self, tree: Tree, *, parent: str | None, title: str) -> str:
        """Store a commit and return its id."""
        listing = [(name, tree[name].sha256) for name in sorted(tree)]
        said = json.dumps([parent, title, len(self.commits), listing])
        commit_id = hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()
        self.commits[commit_id] = Commit(dict(tree), parent, title)
        return commit_id


class HubStore:
    """The repositories and the content that they point to.

    Attributes:
        part_bytes: a larger object is asked for in parts of that size.
        region: storage region of the repositories that are made.
        pull_request_status: how a pull request begins; the client opens one by hand where it is
            a draft.
        extends_attributes: whether a commit adds a rule to .gitattributes for each LFS file that
            no rule covers, as the Hub does.
        has_xet: whether objects can be copied: the Hub copies by the hash of Xet, which old files
            may lack.
        xet_endpoint: where clients find Xet storage, None where there is none.
        repositories_by_id: every repository.
        parts: parts of objects that have come, by repository and object, then by number.
    """

    part_bytes = 8_000_000
    region = "us"
    pull_request_status = "open"
    extends_attributes = True
    has_xet = True
    xet_endpoint: str | None = None

    def __init__(self, folder: Path, *, endpoint: str, storage_endpoint: str) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.storage_endpoint = storage_endpoint
        self.repositories_by_id: dict[str, Repository] = {}
        self.parts: dict[tuple[str, str], dict[int, bytes]] = {}

    def lookup(self, repo_id: str, *, token: str | None) -> Repository:
        """Return a repository that this token may see."""
        repository = self.repositories_by_id.get(repo_id)
        if repository is None or (repository.private and token != OWNER_TOKEN):
            status = 401 if token is None else 404
            raise RefusedError(status, "Repository not found", code="RepoNotFound")
        return repository

    def writable(self, repo_id: str, *, token: str | None, proposing: bool = False) -> Repository:
        """Return a repository that this token may change, or propose a change to."""
        repository = self.lookup(repo_id, token=token)
        if not proposing or token is None:  # any account may open a pull request
            require_owner(token)
        return repository

    def blob_path(self, sha256: str) -> Path:
        """Return where content lies."""
        return self.folder / sha256

    def read_text(self, blob: Blob | None) -> str:
        """Return the content of a text file, empty if there is no such file."""
        return self.blob_path(blob.sha256).read_text(errors="replace") if blob else ""

    def object_bytes(self, repository: Repository, oid: str) -> int | None:
        """Return the size of an LFS object that a commit may point to, None if it may not."""
        return self.blob_path(oid).stat().st_size if oid in repository.objects else None

    def xet_hash(self, oid: str) -> str | None:
        """Return a name of this server's own, which a client only passes back."""
        return hashlib.sha256(f"xet {oid}".encode()).hexdigest() if self.has_xet else None

    def add_blob(self, content: bytes, *, is_large: bool) -> Blob:
        """Store content and return the file that has it."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.blob_path(sha256).write_bytes(content)
        stored = lfs_pointer(sha256, len(content)) if is_large else content
        return Blob(sha256, len(content), git_hash(stored), is_large)

    def store_object(self, oid: str, content: bytes) -> None:
        """Store an LFS object under the hash that was announced for it."""
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusedError(400, "The SHA-256 of what came is not the one that was announced")
        self.blob_path(oid).write_bytes(content)


def require_owner(token: str | None) -> None:
    """Refuse whoever may not write."""
    if token is None:
        raise RefusedError(401, "Invalid username or password.")
    if token != OWNER_TOKEN:
        raise RefusedError(403, "You don't have the rights to write here")


def git_hash(content: bytes) -> str:
    """Return the id that git gives to content."""
    named = b"blob %d\0" % len(content) + content
    return hashlib.sha1(named, usedforsecurity=False).hexdigest()
