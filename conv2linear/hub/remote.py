"""What the Hub has, as data: repositories, files, and the ids by which it knows content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from conv2linear.files.hash import hash_file, hash_git_blob, update_hash
from conv2linear.text import TextEnum

DEFAULT_BRANCH = "main"  # of every repository on the Hub
_GIT_PREFIX = "git:"


class IdKind(TextEnum):
    """How the Hub identifies the content of a file."""

    SHA256 = "sha256"  # a large file
    GIT_BLOB = "git blob"  # a small one


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub; `content_id` is its SHA-256, or `git:` and its blob id if it is small.

    `can_copy` says whether the server can copy it to another repository, `xet_hash` is its name in
    Xet storage, None where it is not there.
    """

    name: str
    size_bytes: int
    content_id: str
    can_copy: bool
    xet_hash: str | None = None

    @property
    def id_kind(self) -> IdKind:
        """What kind of id `content_id` is."""
        return id_kind_of(self.content_id)


class Access(IntEnum):
    """Who may read a repository; a larger value lets fewer do so."""

    PUBLIC = 0
    GATED = 1  # whoever accepts its conditions
    APPROVED = 2  # whom its owner lets in
    PRIVATE = 3

    @property
    def label(self) -> str:
        """Word for it in messages."""
        return {Access.PUBLIC: "public", Access.PRIVATE: "private"}.get(self, "gated")


@dataclass(frozen=True)
class RemoteRepository:
    """A repository on the Hub, by its id as the Hub writes it, with the commit of each branch."""

    repo_id: str
    access: Access
    heads: Mapping[str, str]


def id_kind_of(content_id: str) -> IdKind:
    """Tell what kind of id this is."""
    return IdKind.GIT_BLOB if content_id.startswith(_GIT_PREFIX) else IdKind.SHA256


def git_content_id(blob_id: str) -> str:
    """Return the content id of a small file from what git calls its content."""
    return _GIT_PREFIX + blob_id


def read_content_id(
    path: Path, *, id_kind: IdKind, on_bytes: Callable[[int], None] | None = None
) -> str:
    """Hash a file of this machine into the id that the Hub would give its content."""
    if id_kind is IdKind.SHA256:
        return hash_file(path, on_bytes=on_bytes)
    return git_content_id(hash_git_blob(path, on_bytes=on_bytes))


def hash_content(content: bytes, *, id_kind: IdKind) -> str:
    """Return the id that the Hub would give a content."""
    digest = ContentDigest(id_kind, len(content))
    digest.update(content)
    return digest.content_id


class ContentDigest:
    """Hashes content piece by piece into the id that the Hub would give it."""

    def __init__(self, id_kind: IdKind, size_bytes: int) -> None:
        self._id_kind = id_kind
        if id_kind is IdKind.SHA256:
            self._digest = hashlib.sha256()
        else:
            self._digest = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)

    def update(self, content: bytes) -> None:
        """Add the next piece."""
        self._digest.update(content)

    def update_from(self, path: Path, *, on_bytes: Callable[[int], None]) -> None:
        """Add all of a file; `on_bytes` is told what is read."""
        update_hash(self._digest, path, on_bytes=on_bytes)

    @property
    def content_id(self) -> str:
        """The id of all that came."""
        digest = self._digest.hexdigest()
        return digest if self._id_kind is IdKind.SHA256 else git_content_id(digest)
