"""The repository on the Hub that a checkpoint is pushed to: look, upload, commit, propose, merge.

Nothing is decided here. What the client raises becomes an error of our own.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from huggingface_hub import CommitInfo, constants, hf_hub_url
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from conv2linear.errors import Conv2LinearError, HubError, SourceNotFoundError
from conv2linear.hub.answers import odd_answer
from conv2linear.hub.client import connect
from conv2linear.hub.commit import CommitFile, CommitMessage, LocalFile, Proposal, Published
from conv2linear.hub.download import Download
from conv2linear.hub.errors import check_repo_id, hub_errors, hub_write_errors
from conv2linear.hub.info import RepositoryInfo, is_commit_sha, read_heads, read_info
from conv2linear.hub.listing import list_files
from conv2linear.hub.remote import (
    Access,
    IdKind,
    RemoteFile,
    RemoteRepository,
    hash_content,
)
from conv2linear.hub.writing import WRITE_PATIENCE, WritePatience, bounded_client
from conv2linear.hub.xet import load_client, read_access
from conv2linear.hub.xet_writer import FIRST_CHUNK_BYTES, XetUpload, XetWriter, can_send
from conv2linear.sources.base import Origin, is_omitted

_NOT_A_BRANCH = re.compile(r"refs/.*|[0-9a-f]{40}")
_MAX_TEXT_BYTES = 100_000_000
_IGNORE_NOTHING = "# every file of a checkpoint counts\n"


class HubTarget:
    """A branch of a model repository on the Hub; neither needs to exist yet.

    Raises `SourceNotFoundError` where `repo_id` is not a repository id, and `Conv2LinearError`
    where `branch` names a pull request or a commit, or cannot be a name.
    """

    def __init__(
        self, repo_id: str, branch: str, *, patience: WritePatience = WRITE_PATIENCE
    ) -> None:
        check_repo_id(repo_id)
        is_name = isinstance(branch, str) and branch.isprintable()
        if not is_name or _NOT_A_BRANCH.fullmatch(branch):
            raise Conv2LinearError(
                f"{branch if is_name else ascii(branch)} is not the name of a branch",
                hint="--revision takes a branch; it is made where there is none",
            )
        self.repo_id, self.branch, self._patience = repo_id, branch, patience
        self._api = connect()
        self._listed: dict[tuple[str, str], dict[str, RemoteFile]] = {}

    def look(self) -> RemoteRepository | None:
        """Return what the repository is, or None if the Hub has none of this name."""
        with hub_errors(self.repo_id, self.branch):
            try:
                info = read_info(self.repo_id)
            except GatedRepoError:  # the Hub's client takes it for one that is not found
                raise
            except RepositoryNotFoundError:
                return None
            if info.access is None:
                raise odd_answer(self.repo_id, "it does not say whether the repository is private")
            return RemoteRepository(info.repo_id, info.access, heads=self.heads())

    def look_at_source(self, repo_id: str) -> RepositoryInfo | None:
        """Return what another repository is, None where this account cannot see it."""
        try:
            with hub_errors(repo_id, constants.DEFAULT_REVISION):
                return read_info(repo_id)
        except SourceNotFoundError:
            return None

    def heads(self) -> Mapping[str, str]:
        """Return the commit of each branch."""
        with hub_errors(self.repo_id, self.branch):
            return read_heads(self.repo_id)

    def read_file(self, file: RemoteFile, commit_sha: str) -> bytes:
        """Return the content of a small file at a commit of this repository.

        Raises `HubError` where it is not what the Hub lists.
        """
        if file.size_bytes > _MAX_TEXT_BYTES:
            raise odd_answer(self.repo_id, f"{file.name} has {file.size_bytes} bytes")
        content = bytearray()
        with hub_errors(self.repo_id, commit_sha):
            url = hf_hub_url(self.repo_id, file.name, revision=commit_sha)
            Download(file, url).read(0, file.size_bytes, content.extend)
        if hash_content(bytes(content), id_kind=file.id_kind) != file.content_id:
            raise odd_answer(self.repo_id, f"{file.name} is not what it lists")
        return bytes(content)

    def list_files(self, commit_sha: str, *, repo_id: str | None = None) -> dict[str, RemoteFile]:
        """Return the files at a commit of this repository, or of another one, by name.

        Each commit is asked for once: what it holds never changes.
        """
        key = (repo_id or self.repo_id, commit_sha)
        if key not in self._listed:
            with hub_errors(*key):
                listed = list_files(*key)
                self._listed[key] = {n: file for n, file in listed.items() if not is_omitted(n)}
        return self._listed[key]

    def create_repository(self, *, private: bool) -> None:
        """Make the repository, private if asked, else as the organisation has it."""
        with self._writing():
            self._api.create_repo(self.repo_id, private=private or None)
        found = self.look() if private else None
        if private and (found is None or found.access is not Access.PRIVATE):
            raise HubError(
                f"{self.repo_id} was to be private, and the Hub says that it is not",
                hint="nothing was sent: look at the settings of the repository",
            )

    def create_branch(self, start: str | None) -> None:
        """Make the branch at a commit, or at the head of the default branch."""
        with self._writing():
            self._api.create_branch(self.repo_id, branch=self.branch, revision=start)

    def head(self) -> str:
        """Return the commit that the branch is at."""
        with hub_errors(self.repo_id, self.branch):
            return read_info(self.repo_id, revision=self.branch).commit_sha

    def upload(
        self,
        files: Sequence[LocalFile],
        *,
        source: Origin | None,
        proposing: bool,
        on_bytes: Callable[[int], None],
    ) -> int:
        """Bring the content of large files to the Hub, where a commit can point to it.

        `source` is where files of the same names come from that they resemble. `proposing` says
        that a pull request will point to them: it needs no right to write to the branch. Returns
        how many bytes the Hub did not have, as far as it tells: small files count as a whole, and
        without Xet all do.
        """
        new_bytes = 0
        with self._writing():
            writer = self._open_writer(proposing) if any(f.is_large for f in files) else None
            for file in files:
                if writer and file.is_large:
                    upload = XetUpload(
                        file.path,
                        file.content_id(IdKind.SHA256),
                        self._beginning(file.name, source),
                    )
                    new_bytes += writer.send(upload, on_bytes=on_bytes)
                    file.mark_uploaded()
                    continue
                self._api.preupload_lfs_files(
                    self.repo_id,
                    [file.operation],
                    revision=self.branch,
                    create_pr=proposing,
                    free_memory=False,
                    gitignore_content=_IGNORE_NOTHING,
                )
                new_bytes += file.size_bytes
                on_bytes(file.size_bytes)
        return new_bytes

    def _open_writer(self, proposing: bool) -> XetWriter | None:
        client = load_client()
        if not can_send(client):
            return None
        access = read_access(
            self.repo_id,
            "None" if proposing else self.branch,  # as the client asks for a pull request
            kind="write",
            query="?create_pr=1" if proposing else "",
        )
        return XetWriter(client, self.repo_id, access)

    def _beginning(self, name: str, source: Origin | None) -> bytes:
        """Return the beginning of a file of the source, none where it is not in Xet storage."""
        if source is None:
            return b""
        content = bytearray()
        try:
            file = self.list_files(source.commit_sha, repo_id=source.repo_id).get(name)
            if file is None or file.xet_hash is None:
                return b""
            with hub_errors(source.repo_id, source.commit_sha):
                url = hf_hub_url(source.repo_id, name, revision=source.commit_sha)
                end = min(FIRST_CHUNK_BYTES, file.size_bytes)
                Download(file, url).read(0, end, content.extend)
        except Conv2LinearError:
            return b""  # all of it can be sent
        return bytes(content)

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
            raise odd_answer(self.repo_id, "it names no pull request")
        try:
            sha = first.oid
            for portion in portions[1:]:
                sha = self._commit(portion, message, parent=sha, revision=reference).oid
            yield Proposal(number, Published(sha, url))
        except BaseException:
            # Whatever becomes of this: what failed before is what the user must know.
            with contextlib.suppress(Conv2LinearError), self._writing():
                self._api.change_discussion_status(self.repo_id, number, "closed")
            raise

    def merge(self, proposal: Proposal) -> Published:
        """Merge a pull request into the branch, and wait until the Hub has done so."""
        number = proposal.number
        with self._writing():
            if self._api.get_discussion_details(self.repo_id, number).status == "draft":
                self._api.change_discussion_status(self.repo_id, number, "open")
            self._api.merge_pull_request(self.repo_id, number)
        for pause_s in self._patience.merge_pauses_s:
            with self._writing():
                sha = self._api.get_discussion_details(self.repo_id, number).merge_commit_oid
            if is_commit_sha(sha):
                return Published(sha, self.commit_url(sha))
            time.sleep(pause_s)
        raise HubError(
            f"{self.repo_id}: the Hub does not say that it has merged pull request {number}",
            hint="look at it on the Hub before you run again",
        )

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
        with self._writing():
            made = self._api.create_commit(
                self.repo_id,
                [file.operation for file in files],
                commit_message=message.title,
                commit_description=message.description,
                revision=revision,
                parent_commit=parent,
                create_pr=create_pr,
            )
        if not is_commit_sha(made.oid):
            raise odd_answer(self.repo_id, "it names no commit for what was sent")
        return made

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with hub_write_errors(self.repo_id, self.branch), bounded_client(self._patience):
            yield
