"""What the Hub has, as data: repositories, files, and the ids by which it knows content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conv2linear.files.hash import hash_file, hash_git_blob
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

    `can_copy` says whether the server can copy it to another repository.
    """

    name: str
    size_bytes: int
    content_id: str
    can_copy: bool

    @property
    def id_kind(self) -> IdKind:
        """What kind of id `content_id` is."""
        return id_kind_of(self.content_id)


@dataclass(frozen=True)
class RemoteRepository:
    """A repository on the Hub; `heads` is the commit of each branch."""

    private: bool
    heads: Mapping[str, str]


def id_kind_of(content_id: str) -> IdKind:
    """Tell what kind of id this is."""
    return IdKind.GIT_BLOB if content_id.startswith(_GIT_PREFIX) else IdKind.SHA256


def git_content_id(blob_id: str) -> str:
    """Return the content id of a small file from what git calls its content."""
    return _GIT_PREFIX + blob_id


def read_content_id(path: Path, *, id_kind: IdKind) -> str:
    """Hash a file of this machine into the id that the Hub would give its content."""
    return git_content_id(hash_git_blob(path)) if id_kind is IdKind.GIT_BLOB else hash_file(path)
