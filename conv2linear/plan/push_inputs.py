"""What a push is decided from: where it goes, what is there, and where it comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from conv2linear.hub.remote import DEFAULT_BRANCH, Access, RemoteFile
from conv2linear.record.manifest import Manifest


@dataclass(frozen=True)
class Destination:
    """Where a checkpoint is meant to go: a branch, by a pull request if `create_pr`.

    A repository that does not exist yet is made, `private` or public.
    """

    repo_id: str
    branch: str = DEFAULT_BRANCH
    create_pr: bool = False
    private: bool = False

    @property
    def label(self) -> str:
        """Name of it in messages."""
        return f"{self.repo_id} at {self.branch}"


@dataclass(frozen=True)
class Base:
    """What a push builds on: a commit, None where the repository does not exist yet.

    `recorded` is the commit that was converted, if it is one of this repository.
    """

    commit_sha: str | None
    recorded: str | None = None
    creates_repository: bool = False
    creates_branch: bool = False


@dataclass(frozen=True)
class SourceAccess:
    """Who may read the repository that was converted; `access` is None where it cannot be seen."""

    repo_id: str
    access: Access | None


@dataclass(frozen=True)
class PushInputs:
    """All that a push is decided by; see `plan_operations` for the files.

    `manifest_bytes` is the size of the record as it will be sent, `existing_manifest` the record
    that the target has, None if it has none that can be read.
    """

    manifest: Manifest
    manifest_bytes: int
    destination: Destination
    base: Base
    source: Mapping[str, RemoteFile]
    existing: Mapping[str, RemoteFile]
    already_on_target: Collection[str]
    existing_manifest: Manifest | None = None
