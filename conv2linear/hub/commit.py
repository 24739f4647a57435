"""What a commit on the Hub is made of, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, constants

from conv2linear.files.hash import hash_file
from conv2linear.hub.remote import IdKind, read_content_id
from conv2linear.sources.base import Origin

_MAX_REGULAR_BYTES = 10_000_000  # the Hub takes a larger file as a large one alone
_LARGE_SUFFIX = ".safetensors"  # and these, by the .gitattributes that it begins with


class LocalFile:
    """A file of this machine for a commit. It is hashed once, here, for the upload too.

    Raises `OSError` where it cannot be read.
    """

    def __init__(self, name: str, path: Path) -> None:
        path.stat()  # the client raises a ValueError for a file that has gone
        self.name, self.path = name, path
        self.operation = CommitOperationAdd(name, path)

    @property
    def size_bytes(self) -> int:
        """Size that it had when it was hashed."""
        return self.operation.upload_info.size

    @property
    def is_large(self) -> bool:
        """Whether the Hub surely keeps its content beside git."""
        is_weights = self.name.endswith(_LARGE_SUFFIX)
        return self.size_bytes > (0 if is_weights else _MAX_REGULAR_BYTES)

    def hash(self, *, on_bytes: Callable[[int], None]) -> None:
        """Hash it; `on_bytes` is told how many more bytes are, and what it raises ends that.

        Clients up to 1.x have hashed it when they were given it, and tell nothing of it.
        """
        info = self.operation.upload_info
        if getattr(info, "is_hashed", True):
            on_bytes(info.size)
        else:
            info.sha256 = bytes.fromhex(hash_file(self.path, on_bytes=on_bytes))

    def mark_uploaded(self) -> None:
        """Note for the client that the Hub has its content, as a large file.

        The client has no public name for that. One that has another name for it uploads the file
        again, and finds that the Hub has all of it.
        """
        self.operation._upload_mode = "lfs"
        self.operation._should_ignore = False
        self.operation._is_uploaded = True

    def content_id(self, id_kind: IdKind) -> str:
        """Return the id that the Hub gives its content."""
        if id_kind is IdKind.SHA256:
            return self.operation.upload_info.sha256.hex()
        return read_content_id(self.path, id_kind=id_kind)


@dataclass(frozen=True)
class ServerCopy:
    """A file that the server copies, under the same name, from another repository."""

    name: str
    origin: Origin

    @property
    def operation(self) -> CommitOperationCopy:
        """What the client is given."""
        return CommitOperationCopy(
            self.name,
            self.name,
            src_revision=self.origin.commit_sha,
            src_repo_id=self.origin.repo_id,
            src_repo_type=constants.REPO_TYPE_MODEL,
        )


CommitFile = LocalFile | ServerCopy


@dataclass(frozen=True)
class CommitMessage:
    """What the history of the repository says of a commit."""

    title: str
    description: str


@dataclass(frozen=True)
class Published:
    """A commit on the Hub; `url` leads to it, or to the pull request that proposes it."""

    commit_sha: str
    url: str


@dataclass(frozen=True)
class Proposal:
    """An open pull request, and its last commit."""

    number: int
    published: Published
