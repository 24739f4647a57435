"""`push`: verify, plan, and publish a converted checkpoint on the Hub by one commit."""

from __future__ import annotations

import contextlib
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationCopy, HfApi, constants
from huggingface_hub.errors import (
    FileDuplicationError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    logging,
)

from conv2linear.errors import (
    BadCheckpointError,
    CheckFailedError,
    Conv2LinearError,
    HubError,
    SourceNotFoundError,
)
from conv2linear.files.disk_errors import read_errors
from conv2linear.files.hash import hash_file, hash_git_blob
from conv2linear.hub.errors import hub_errors
from conv2linear.hub.repository import open_repository
from conv2linear.operations.verify.verify import verify
from conv2linear.plan.push import (
    Operation,
    PushPlan,
    RemoteFile,
    Transfer,
    complete_manifest,
    plan_operations,
    refuse_foreign_checkpoint,
    refuse_stray_weights,
)
from conv2linear.progress import NoProgress, Progress
from conv2linear.record.manifest import MANIFEST_NAME, Manifest, dump_manifest, parse_manifest
from conv2linear.sources.base import OMITTED_FOLDERS, Origin, read_text
from conv2linear.sources.folder import Folder
from conv2linear.version import __version__

# huggingface.co/docs/hub/repositories-recommendations: fewer than 100 files a commit.
MAX_COMMIT_FILES = 99
_TIMEOUT_S = 10.0  # the client has none of its own
_IGNORE_NOTHING = "# every file of a checkpoint counts\n"
_TOKEN_HINT = "log in with `hf auth login`, with a token that may write, or set HF_TOKEN"
_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")
_NO_BRANCH = re.compile(r"refs/.*|[0-9a-f]{40}")


@dataclass(frozen=True)
class Push:
    """A finished push: the commit that holds the checkpoint, and what was done to each file.

    `url` leads to the commit, or to the pull request if it was proposed by one.
    """

    repo_id: str
    revision: str
    commit_sha: str
    url: str
    is_pull_request: bool
    operations: tuple[Operation, ...]
    uploaded_bytes: int
    copied_bytes: int
    copied_file_count: int


class _CopyRefusedError(Exception):
    """The server does not copy files from the repository of the source."""


def plan_push(
    checkpoint: str | Path,
    repo_id: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    private: bool = False,
    progress: Progress | None = None,
) -> PushPlan:
    """Decide what pushing a converted checkpoint would do; nothing is verified and nothing sent.

    Raises `BadCheckpointError` where the folder is no converted checkpoint, `HubError` where the
    target has moved on or holds another checkpoint, and `SourceNotFoundError` where the Hub does
    not know a repository or a token.
    """
    with tempfile.TemporaryDirectory(prefix="conv2linear-") as scratch:
        publisher = _Publisher(
            checkpoint,
            repo_id,
            branch=revision or constants.DEFAULT_REVISION,
            create_pr=create_pr,
            private=private,
            scratch=Path(scratch),
            progress=progress or NoProgress(),
        )
        return publisher.plan()


def push(
    checkpoint: str | Path,
    repo_id: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    private: bool = False,
    progress: Progress | None = None,
) -> Push:
    """Publish a converted checkpoint, whole or an overlay, as `repo_id` on the Hub.

    It is verified first. Then the branch `revision` (main) gets all files by one commit, or by
    the merge of a pull request where they are too many, or not at all: changed ones are uploaded,
    large ones that the source has are copied on the server. In the repository of the source, a
    branch that does not exist starts at the recorded commit. With `create_pr` the files are
    proposed, with `private` a new repository is made so.

    Raises `CheckFailedError` where the checkpoint does not pass, or the Hub holds other content
    than was sent, and what `plan_push` raises.
    """
    progress = progress or NoProgress()
    with tempfile.TemporaryDirectory(prefix="conv2linear-") as scratch:
        publisher = _Publisher(
            checkpoint,
            repo_id,
            branch=revision or constants.DEFAULT_REVISION,
            create_pr=create_pr,
            private=private,
            scratch=Path(scratch),
            progress=progress,
        )
        verification = verify(checkpoint, progress=progress)
        if not verification.passed:
            first = verification.failed[0]
            raise CheckFailedError(
                f"{checkpoint} does not pass: {first.name}: {first.detail}",
                hint="nothing was sent; `conv2linear verify` shows all checks",
            )
        progress.step("plan")
        return publisher.publish(publisher.plan())


class _Publisher:
    """A converted checkpoint in a folder, and the place on the Hub that it is meant for.

    `scratch` is an empty folder for files that are sent and are not in that of the checkpoint.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        repo_id: str,
        *,
        branch: str,
        create_pr: bool,
        private: bool,
        scratch: Path,
        progress: Progress,
    ) -> None:
        if not _REPO_ID.fullmatch(repo_id):
            raise Conv2LinearError(
                f"{repo_id} is not the name of a repository", hint="it looks like org/name"
            )
        if _NO_BRANCH.fullmatch(branch):
            raise Conv2LinearError(
                f"{branch} is not the name of a branch",
                hint="--revision takes a branch; it is made where there is none",
            )
        self.repo_id, self.branch, self.create_pr = repo_id, branch, create_pr
        self.private, self.scratch, self.progress = private, scratch, progress
        with read_errors(Path(checkpoint)):
            self.folder = Folder(Path(checkpoint))
        self.manifest = _read_manifest(self.folder)
        if self.manifest.partial:  # what is published is whole
            record = dump_manifest(complete_manifest(self.manifest))
            (scratch / MANIFEST_NAME).write_text(record, encoding="utf-8")
        self._api = HfApi(library_name="conv2linear", library_version=__version__)
        self._source: Mapping[str, RemoteFile] | None = None
        self._listed: dict[tuple[str, str], dict[str, RemoteFile]] = {}
        logging.set_verbosity_error()  # the client's retries are no news for a user

    @property
    def _origin(self) -> Origin | None:
        return self.manifest.source

    def plan(self) -> PushPlan:
        """Look at source and target, and decide."""
        with hub_errors(self.repo_id, self.branch):
            branches = self._branches()
        if branches is None:
            return self._plan_on(None, {}, creates_repository=True)
        head = branches.get(self.branch)
        recorded = self._recorded_commit
        start = head or branches.get(constants.DEFAULT_REVISION)
        if recorded and (head is None or self.create_pr):
            start = recorded
        if start is None:
            raise HubError(f"{self.repo_id} has no branch {constants.DEFAULT_REVISION!r}")
        with hub_errors(self.repo_id, start):
            base = self._list_files(self.repo_id, start)
        plan = self._plan_on(start, base, creates_branch=head is None)
        if recorded and start != recorded and plan.pending:
            raise _moved(self.repo_id, self.branch, recorded)
        label = f"{self.repo_id} at {self.branch}"
        refuse_stray_weights(plan.operations, base, label=label)
        if not recorded and not self.create_pr:
            refuse_foreign_checkpoint(plan.operations, base, label=label)
        return plan

    @property
    def _recorded_commit(self) -> str | None:
        """The commit that was converted, if the target is the repository of the source."""
        origin = self._origin
        return origin.commit_sha if origin and origin.repo_id == self.repo_id else None

    def publish(self, plan: PushPlan) -> Push:
        """Do what the plan says; where the server refuses to copy, upload what is here."""
        if not plan.pending:
            return self._result(plan, plan.parent or "", url=None)
        parent = self._create_target(plan)
        try:
            return self._commit(plan, parent)
        except _CopyRefusedError as refused:
            if self.manifest.partial:
                raise HubError(
                    f"{self.repo_id}: the Hub does not copy from the source: {refused}",
                    hint="convert without --changed-only, then push the whole checkpoint",
                ) from refused
            self.progress.warn(f"the Hub does not copy from the source, so upload: {refused}")
            self._source = _without_copies(self._source or {})
            return self._commit(replace(plan, operations=self.plan().operations), parent)

    def _branches(self) -> dict[str, str] | None:
        """Return the head of each branch of the target, or None if there is no such repository."""
        try:
            info = self._api.model_info(self.repo_id, timeout=_TIMEOUT_S)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None
        if self.private and not info.private:
            raise HubError(
                f"{self.repo_id} exists and is public, --private does not change that",
                hint="choose another name, or change it in the settings of the repository",
            )
        refs = self._api.list_repo_refs(self.repo_id)
        return {ref.name: ref.target_commit for ref in refs.branches}

    def _list_files(self, repo_id: str, commit_sha: str) -> dict[str, RemoteFile]:
        key = (repo_id, commit_sha)
        if key not in self._listed:
            self._listed[key] = self._ask_for_files(*key)
        return self._listed[key]

    def _ask_for_files(self, repo_id: str, commit_sha: str) -> dict[str, RemoteFile]:
        entries = self._api.list_repo_tree(repo_id, revision=commit_sha, recursive=True)
        return {
            entry.path: RemoteFile(
                entry.path,
                entry.size,
                entry.lfs.sha256 if entry.lfs else f"git:{entry.blob_id}",
                can_copy=entry.lfs is not None and entry.xet_hash is not None,
            )
            for entry in entries
            if isinstance(entry, RepoFile) and entry.path.split("/")[0] not in OMITTED_FOLDERS
        }

    def _source_files(self) -> Mapping[str, RemoteFile]:
        """Return the files of the source at the recorded commit; none if they cannot be read."""
        if self._source is None and self._origin is None:
            self._source = {}
        if self._source is None and self._origin:
            try:
                with hub_errors(self._origin.repo_id, self._origin.commit_sha):
                    self._source = self._list_files(self._origin.repo_id, self._origin.commit_sha)
            except SourceNotFoundError as error:
                if self.manifest.partial:
                    raise
                self.progress.warn(f"nothing is copied on the server: {error}")
                self._source = {}
        return self._source or {}

    def _plan_on(
        self,
        parent: str | None,
        base: Mapping[str, RemoteFile],
        *,
        creates_repository: bool = False,
        creates_branch: bool = False,
    ) -> PushPlan:
        source = self._source_files()
        operations = plan_operations(
            self.manifest,
            manifest_bytes=self._path(MANIFEST_NAME).stat().st_size,
            source=source,
            base=base,
            held=self._held(source, base),
        )
        return PushPlan(
            repo_id=self.repo_id,
            branch=self.branch,
            parent=parent,
            creates_repository=creates_repository,
            creates_branch=creates_branch or (creates_repository and self._is_side_branch),
            create_pr=self.create_pr,
            private=self.private,
            operations=operations,
        )

    @property
    def _is_side_branch(self) -> bool:
        return self.branch != constants.DEFAULT_REVISION

    def _held(
        self, source: Mapping[str, RemoteFile], base: Mapping[str, RemoteFile]
    ) -> frozenset[str]:
        """Return the files whose content the target has, of those that only hashing can tell."""
        held = set()
        for name in self.folder.files.keys() & base.keys():
            path, there, original = self._path(name), base[name], source.get(name)
            if original is not None and there.content_id == original.content_id:
                continue  # it was changed since, or else the plan sees that it is the same
            if there.size_bytes != path.stat().st_size:
                continue
            if _hash(path, like=there.content_id) == there.content_id:
                held.add(name)
        return frozenset(held)

    def _path(self, name: str) -> Path:
        """Return where a file that can be sent lies on this machine."""
        path = self.scratch / name
        return path if path.exists() else self.folder.path / name

    def _create_target(self, plan: PushPlan) -> str:
        """Make the repository and the branch where they are missing; return the commit there."""
        self.progress.step("create")
        with _write_errors(self.repo_id, self.branch):
            if plan.creates_repository:
                self._api.create_repo(self.repo_id, private=self.private or None)
            if plan.creates_branch:
                self._api.create_branch(self.repo_id, branch=self.branch, revision=plan.parent)
            parent = plan.parent
            if parent is None:
                info = self._api.model_info(self.repo_id, revision=self.branch, timeout=_TIMEOUT_S)
                parent = info.sha
        if parent is None:
            raise HubError(f"{self.repo_id}: the Hub names no commit for {self.branch!r}")
        return parent

    def _commit(self, plan: PushPlan, parent: str) -> Push:
        self._fetch_missing(plan)
        with _silent_client(), _write_errors(self.repo_id, self.branch):
            operations = [self._commit_operation(operation) for operation in plan.pending]
            is_split = len(operations) > MAX_COMMIT_FILES
            self._upload(plan, operations, proposing=self.create_pr or is_split)
            self.progress.step("commit")
            before = self._list_files(self.repo_id, parent)
            if self.create_pr or is_split:
                sha, url = self._propose(operations, parent)
            else:
                commit = self._send(operations, parent=parent, revision=self.branch)
                sha, url = commit.oid, commit.commit_url
            after = self._list_files(self.repo_id, sha)
            _check_published(plan, operations, before=before, after=after)
        return self._result(plan, sha, url=url)

    def _fetch_missing(self, plan: PushPlan) -> None:
        """Download the small files that an overlay lacks and the target needs."""
        missing = [o for o in plan.pending if o.kind is Transfer.UPLOAD and not o.is_local]
        if not missing or self._origin is None:
            return
        self.progress.step("download", plan.downloaded_bytes)
        source = open_repository(self._origin.repo_id, revision=self._origin.commit_sha)
        for operation in missing:
            path = self.scratch / operation.name
            path.parent.mkdir(parents=True, exist_ok=True)
            source.fetch(operation.name, path, scratch=self.scratch, on_bytes=self.progress.advance)

    def _commit_operation(self, operation: Operation) -> CommitOperationAdd | CommitOperationCopy:
        name, origin = operation.name, self._origin
        if operation.kind is Transfer.COPY and origin is not None:
            return CommitOperationCopy(
                name,
                name,
                src_revision=origin.commit_sha,
                src_repo_id=origin.repo_id,
                src_repo_type=constants.REPO_TYPE_MODEL,
            )
        addition = CommitOperationAdd(name, self._path(name))
        expected = operation.content_id
        if expected is not None and _content_id(addition, like=expected) != expected:
            raise CheckFailedError(
                f"{name} is not what was converted: expected content {expected}",
                hint="it has changed since: convert again",
            )
        return addition

    def _upload(
        self,
        plan: PushPlan,
        operations: Sequence[CommitOperationAdd | CommitOperationCopy],
        *,
        proposing: bool,
    ) -> None:
        """Bring the content of large files to the Hub, where a commit can point to it."""
        self.progress.step("upload", plan.uploaded_bytes)
        for operation in operations:
            if isinstance(operation, CommitOperationAdd):
                self._api.preupload_lfs_files(
                    self.repo_id,
                    [operation],
                    revision=self.branch,
                    create_pr=proposing,
                    free_memory=False,
                    gitignore_content=_IGNORE_NOTHING,
                )
                self.progress.advance(operation.upload_info.size)

    def _send(
        self,
        operations: Sequence[CommitOperationAdd | CommitOperationCopy],
        *,
        parent: str,
        revision: str,
        create_pr: bool = False,
    ) -> CommitInfo:
        return self._api.create_commit(
            self.repo_id,
            list(operations),
            commit_message="Store the patch embedding as a linear layer",
            commit_description=_description(self.manifest),
            revision=revision,
            parent_commit=parent,
            create_pr=create_pr,
        )

    def _propose(
        self, operations: Sequence[CommitOperationAdd | CommitOperationCopy], parent: str
    ) -> tuple[str, str]:
        """Commit in portions to a pull request, and merge it unless the user will.

        The branch holds either nothing of it or all of it. Returns the commit and a URL.
        """
        size = MAX_COMMIT_FILES
        portions = [operations[at : at + size] for at in range(0, len(operations), size)]
        first = self._send(portions[0], parent=parent, revision=self.branch, create_pr=True)
        number, reference, url = first.pr_num, first.pr_revision, first.pr_url
        if number is None or reference is None or url is None:
            raise HubError(f"{self.repo_id}: the Hub names no pull request")
        sha = first.oid
        try:
            for portion in portions[1:]:
                sha = self._send(portion, parent=sha, revision=reference).oid
            if self.create_pr:
                return sha, url
            return self._merge(number, parent)
        except BaseException:
            with contextlib.suppress(HTTPError):
                self._api.change_discussion_status(self.repo_id, number, "closed")
            raise

    def _merge(self, number: int, parent: str) -> tuple[str, str]:
        # The client cannot merge on a condition: a commit of the last moment is found afterwards.
        refs = self._api.list_repo_refs(self.repo_id)
        heads = {ref.name: ref.target_commit for ref in refs.branches}
        if heads.get(self.branch) != parent:
            raise _moved(self.repo_id, self.branch, parent)
        if self._api.get_discussion_details(self.repo_id, number).status == "draft":
            self._api.change_discussion_status(self.repo_id, number, "open")
        self._api.merge_pull_request(self.repo_id, number)
        sha = self._api.get_discussion_details(self.repo_id, number).merge_commit_oid
        if sha is None:
            raise HubError(f"{self.repo_id}: the Hub names no commit of the merge")
        return sha, f"{constants.ENDPOINT}/{self.repo_id}/commit/{sha}"

    def _result(self, plan: PushPlan, sha: str, *, url: str | None) -> Push:
        return Push(
            repo_id=self.repo_id,
            revision=self.branch,
            commit_sha=sha,
            url=url or f"{constants.ENDPOINT}/{self.repo_id}/commit/{sha}",
            is_pull_request=self.create_pr and bool(plan.pending),
            operations=plan.operations,
            uploaded_bytes=plan.uploaded_bytes,
            copied_bytes=plan.copied_bytes,
            copied_file_count=plan.copied_file_count,
        )


def _read_manifest(folder: Folder) -> Manifest:
    if MANIFEST_NAME not in folder.files:
        raise BadCheckpointError(
            f"{folder.label}: no {MANIFEST_NAME}",
            hint="`conv2linear convert` makes what can be pushed",
        )
    return parse_manifest(read_text(folder, MANIFEST_NAME))


def _hash(path: Path, *, like: str) -> str:
    """Identify a file in the way that another content id is spelled."""
    return f"git:{hash_git_blob(path)}" if like.startswith("git:") else hash_file(path)


def _content_id(addition: CommitOperationAdd, *, like: str) -> str:
    """Identify what is sent in the way that another content id is spelled."""
    if like.startswith("git:"):
        return _hash(Path(str(addition.path_or_fileobj)), like=like)
    return addition.upload_info.sha256.hex()  # hashed once, for the upload too


def _check_published(
    plan: PushPlan,
    operations: Sequence[CommitOperationAdd | CommitOperationCopy],
    *,
    before: Mapping[str, RemoteFile],
    after: Mapping[str, RemoteFile],
) -> None:
    """Check that the commit holds what was planned, and all else as it was."""
    expected = {name: file.content_id for name, file in before.items()}
    expected |= {o.name: o.content_id or "" for o in plan.operations if o.kind is Transfer.COPY}
    for operation in operations:
        there = after.get(operation.path_in_repo)
        if isinstance(operation, CommitOperationAdd):
            like = there.content_id if there else ""
            expected[operation.path_in_repo] = _content_id(operation, like=like)
    found = {name: file.content_id for name, file in after.items()}
    names = sorted(expected.keys() | found.keys())
    wrong = [name for name in names if found.get(name) != expected.get(name)]
    if wrong:
        raise CheckFailedError(
            f"{plan.repo_id}: {wrong[0]} is not what was sent, or meant to stay",
            hint="somebody else wrote at the same time: look at the history of the branch",
        )


def _without_copies(source: Mapping[str, RemoteFile]) -> dict[str, RemoteFile]:
    return {name: replace(file, can_copy=False) for name, file in source.items()}


def _description(manifest: Manifest) -> str:
    origin = manifest.source
    made_from = f" from {origin.repo_id} at {origin.commit_sha}" if origin else ""
    return f"Converted{made_from} by conv2linear {manifest.tool}; {MANIFEST_NAME} is the record."


def _moved(repo_id: str, branch: str, parent: str) -> HubError:
    return HubError(
        f"{repo_id}: {branch} is no longer at {parent}, which this push builds on",
        hint="look at what has changed; choose another branch, or convert the new commit",
    )


@contextlib.contextmanager
def _write_errors(repo_id: str, branch: str) -> Iterator[None]:
    """Turn what the client raises when it writes into our own errors."""
    with hub_errors(repo_id, branch):
        try:
            yield
        except FileDuplicationError as error:
            raise _CopyRefusedError(str(error).splitlines()[-1].strip(" -")) from error
        except HTTPError as error:
            raise (_as_write_error(error, repo_id, branch) or error) from None
        except HFValidationError:
            raise
        except (RuntimeError, ValueError) as error:  # the upload of one file has failed
            if isinstance(error.__cause__, HTTPError):
                raise (
                    _as_write_error(error.__cause__, repo_id, branch) or error.__cause__
                ) from None
            raise HubError(f"{repo_id}: {str(error).splitlines()[0]}") from error


def _as_write_error(error: HTTPError, repo_id: str, branch: str) -> Exception | None:
    """Say what a refusal to write means; None where it means the same as for a read."""
    if not isinstance(error, HfHubHTTPError):
        return None
    status = error.response.status_code
    said = error.server_message or f"status {status}"
    if str(error.response.request.url).endswith("/lfs-files/duplicate") and status < 500:
        return _CopyRefusedError(said)
    if status == 412:
        return HubError(
            f"{repo_id}: {branch} has moved on since this push began",
            hint="nothing was changed: look at what is new, then run again",
        )
    if "Invalid credentials" not in str(error) and status in (401, 403):
        return HubError(f"this token may not write to {repo_id}", hint=_TOKEN_HINT)
    if status in (400, 402, 409, 413, 422):
        return HubError(f"{repo_id}: the Hub refuses it: {said}")
    return None


@contextlib.contextmanager
def _silent_client() -> Iterator[None]:
    """Keep the client's own bars and warnings from the terminal."""
    was_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if not was_disabled:
            enable_progress_bars()
