"""The repository on the Hub that a checkpoint is pushed to: look, upload, commit, propose, merge.

Nothing is decided here. What the client raises becomes an error of our own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence

from huggingface_hub import CommitInfo, constants
from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError

from conv2linear.errors import Conv2LinearError, HubError
from conv2linear.hub.client import TIMEOUT_S, connect, silent_client
from conv2linear.hub.commit import CommitFile, CommitMessage, LocalFile, Proposal, Published
from conv2linear.hub.errors import check_repo_id, hub_errors, hub_write_errors
from conv2linear.hub.listing import list_files
from conv2linear.hub.remote import RemoteFile, RemoteRepository

_NOT_A_BRANCH = re.compile(r"refs/.*|[0-9a-f]{40}")
_IGNORE_NOTHING = "# every file of a checkpoint counts\n"


class HubTarget:
    """A branch of a model repository on the Hub; neither needs to exist yet.

    Raises `SourceNotFoundError` where `repo_id` is not a repository id, and `Conv2LinearError`
    where `branch` names a pull request or a commit, or cannot be a name.
    """

    def __init__(self, repo_id: str, branch: str) -> None:
        check_repo_id(repo_id)
        if _NOT_A_BRANCH.fullmatch(branch) or not branch.isprintable():
            raise Conv2LinearError(
                f"{branch if branch.isprintable() else ascii(branch)} is not the name of a branch",
                hint="--revision takes a branch; it is made where there is none",
            )
        self.repo_id, self.branch = repo_id, branch
        self._api = connect()
        self._listed: dict[tuple[str, str], dict[str, RemoteFile]] = {}

    def look(self) -> RemoteRepository | None:
        """Return what the repository is, or None if the Hub has none of this name."""
        with hub_errors(self.repo_id, self.branch):
            try:
                info = self._api.model_info(self.repo_id, timeout=TIMEOUT_S)
            except GatedRepoError:  # the Hub's client takes it for one that is not found
                raise
            except RepositoryNotFoundError:
                return None
            return RemoteRepository(private=bool(info.private), heads=self.heads())

    def heads(self) -> dict[str, str]:
        """Return the commit of each branch."""
        with hub_errors(self.repo_id, self.branch):
            refs = self._api.list_repo_refs(self.repo_id)
        return {ref.name: ref.target_commit for ref in refs.branches}

    def list_files(self, commit_sha: str, *, repo_id: str | None = None) -> dict[str, RemoteFile]:
        """Return the files at a commit of this repository, or of another one, by name.

        Each commit is asked for once: what it holds never changes.
        """
        key = (repo_id or self.repo_id, commit_sha)
        if key not in self._listed:
            with hub_errors(*key):
                self._listed[key] = list_files(self._api, *key)
        return self._listed[key]

    def create_repository(self, *, private: bool) -> None:
        """Make the repository, private if asked, else as the organisation has it."""
        with hub_write_errors(self.repo_id, self.branch):
            self._api.create_repo(self.repo_id, private=private or None)

    def create_branch(self, start: str | None) -> None:
        """Make the branch at a commit, or at the head of the default branch."""
        with hub_write_errors(self.repo_id, self.branch):
            self._api.create_branch(self.repo_id, branch=self.branch, revision=start)

    def head(self) -> str:
        """Return the commit that the branch is at."""
        with hub_write_errors(self.repo_id, self.branch):
            info = self._api.model_info(self.repo_id, revision=self.branch, timeout=TIMEOUT_S)
        if info.sha is None:
            raise HubError(f"{self.repo_id}: the Hub names no commit for {self.branch!r}")
        return info.sha

    def upload(
        self, files: Sequence[LocalFile], *, proposing: bool, on_bytes: Callable[[int], None]
    ) -> None:
        """Bring the content of large files to the Hub, where a commit can point to it.

        `proposing` says that a pull request will: it needs no right to write to the branch.
        """
        with silent_client(), hub_write_errors(self.repo_id, self.branch):
            for file in files:
                self._api.preupload_lfs_files(
                    self.repo_id,
                    [file.operation],
                    revision=self.branch,
                    create_pr=proposing,
                    free_memory=False,
                    gitignore_content=_IGNORE_NOTHING,
                )
                on_bytes(file.size_bytes)

    def commit(
        self, files: Sequence[CommitFile], *, parent: str, message: CommitMessage
    ) -> Published:
        """Commit to the branch, if it is still at `parent`.

        Raises `CopyRefusedError` where the server does not copy, and `HubError`.
        """
        commit = self._commit(files, message, parent=parent, revision=self.branch)
        return Published(commit.oid, commit.commit_url)

    @contextlib.contextmanager
    def proposing(
        self, portions: Sequence[Sequence[CommitFile]], *, parent: str, message: CommitMessage
    ) -> Iterator[Proposal]:
        """Open a pull request with one commit for each portion; close it if the block fails."""
        first = self._commit(
            portions[0], message, parent=parent, revision=self.branch, create_pr=True
        )
        number, reference, url = first.pr_num, first.pr_revision, first.pr_url
        if number is None or reference is None or url is None:
            raise HubError(f"{self.repo_id}: the Hub names no pull request")
        try:
            sha = first.oid
            for portion in portions[1:]:
                sha = self._commit(portion, message, parent=sha, revision=reference).oid
            yield Proposal(number, Published(sha, url))
        except BaseException:
            with contextlib.suppress(HTTPError):
                self._api.change_discussion_status(self.repo_id, number, "closed")
            raise

    def merge(self, proposal: Proposal) -> Published:
        """Merge a pull request into the branch."""
        with silent_client(), hub_write_errors(self.repo_id, self.branch):
            details = self._api.get_discussion_details(self.repo_id, proposal.number)
            if details.status == "draft":
                self._api.change_discussion_status(self.repo_id, proposal.number, "open")
            self._api.merge_pull_request(self.repo_id, proposal.number)
            details = self._api.get_discussion_details(self.repo_id, proposal.number)
        if details.merge_commit_oid is None:
            raise HubError(f"{self.repo_id}: the Hub names no commit of the merge")
        return Published(details.merge_commit_oid, self.commit_url(details.merge_commit_oid))

    def commit_url(self, commit_sha: str) -> str:
        """Return the address of a commit for people."""
        return f"{constants.ENDPOINT}/{self.repo_id}/commit/{commit_sha}"

    def _commit(
        self,
        files: Sequence[CommitFile],
        message: CommitMessage,
        *,
        parent: str,
        revision: str,
        create_pr: bool = False,
    ) -> CommitInfo:
        with silent_client(), hub_write_errors(self.repo_id, self.branch):
            return self._api.create_commit(
                self.repo_id,
                [file.operation for file in files],
                commit_message=message.title,
                commit_description=message.description,
                revision=revision,
                parent_commit=parent,
                create_pr=create_pr,
            )
