"""What a commit on the Hub is made of, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, constants

from conv2linear.hub.remote import IdKind, read_content_id
from conv2linear.sources.base import Origin


class LocalFile:
    """A file of this machine for a commit. It is hashed once, here, for the upload too.

    Raises `OSError` where it cannot be read.
    """

    def __init__(self, name: str, path: Path) -> None:
        path.stat()  # the client raises a ValueError for a file that has gone
        self.name, self._path = name, path
        self.operation = CommitOperationAdd(name, path)

    @property
    def size_bytes(self) -> int:
        """Size that it had when it was hashed."""
        return self.operation.upload_info.size

    def content_id(self, id_kind: IdKind) -> str:
        """Return the id that the Hub gives its content."""
        if id_kind is IdKind.SHA256:
            return self.operation.upload_info.sha256.hex()
        return read_content_id(self._path, id_kind=id_kind)


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
