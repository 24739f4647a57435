"""`push`: verify, plan, and publish a converted checkpoint on the Hub by one commit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from conv2linear.errors import CheckFailedError, HubError
from conv2linear.hub.commit import LocalFile, Published
from conv2linear.hub.errors import CopyRefusedError
from conv2linear.hub.remote import DEFAULT_BRANCH
from conv2linear.operations.publication import (
    Publication,
    attributes_extended,
    commit,
    content_ids,
    create_target,
    fetch_missing,
    look,
    open_files,
    open_publication,
    upload,
)
from conv2linear.operations.verify.verify import verify
from conv2linear.paths import StrPath
from conv2linear.plan.push import PushPlan, build_push_plan, check_published, split_commits
from conv2linear.plan.push_inputs import Destination
from conv2linear.plan.transfer import Operation
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.record.git_attributes import GIT_ATTRIBUTES
from conv2linear.result import Result
from conv2linear.sources.address import HubAddress, choose_revision, parse_address

# huggingface.co/docs/hub/repositories-recommendations: fewer than 100 files a commit.
MAX_COMMIT_FILES = 99


@dataclass(frozen=True)
class PushResult(Result):
    """A finished push: the commit that holds the checkpoint, and what was done to each file.

    `url` leads to the commit, or to the pull request if it was proposed by one. `new_bytes` are
    those of `uploaded_bytes` that the Hub did not have: over Xet it takes the chunks that it lacks.
    """

    repo_id: str
    revision: str
    commit_sha: str
    url: str
    is_pull_request: bool
    operations: tuple[Operation, ...]
    uploaded_bytes: int
    new_bytes: int
    copied_bytes: int
    copied_file_count: int
    warnings: tuple[str, ...]


def plan_push(
    checkpoint: StrPath,
    repo_id: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    private: bool = False,
    progress: Progress | None = None,
) -> PushPlan:
    """Decide what pushing a converted checkpoint would do; nothing is verified and nothing sent.

    The parameters are those of `push`. Raises `BadCheckpointError` where the folder is not a
    converted checkpoint, `HubError` where the target has moved on or holds another checkpoint, and
    `SourceNotFoundError` where the Hub does not know a repository or a token.
    """
    destination = _destination(repo_id, revision, create_pr=create_pr, private=private)
    recorded = RecordedProgress(progress)
    with open_publication(checkpoint, destination, recorded) as publication:
        plan = build_push_plan(look(publication))
        recorded.warn_all(plan.warnings)
    return replace(plan, warnings=recorded.warnings)


def push(
    checkpoint: StrPath,
    repo_id: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    private: bool = False,
    progress: Progress | None = None,
) -> PushResult:
    """Verify a converted checkpoint and publish it on the Hub.

    The branch gets all files by one commit, or by the merge of a pull request where they are too
    many for one, or it stays as it was. Changed files are uploaded, large ones that the source has
    are copied on the server.

    Args:
        checkpoint: the folder that `convert` has written, complete or an overlay.
        repo_id: `org/name` on the Hub, or its address; the repository is made if it does not
            exist.
        revision: the branch, `main` if None; it is made if it does not exist, in the repository of
            the source at the commit that was converted.
        create_pr: propose the files by a pull request, and leave the branch as it is.
        private: make a new repository private.
        progress: receives steps, bytes and warnings.

    Raises `CheckFailedError` where the checkpoint does not pass, or the Hub holds other content
    than was sent, and what `plan_push` raises.
    """
    destination = _destination(repo_id, revision, create_pr=create_pr, private=private)
    return publish(checkpoint, destination, progress=progress)


def _destination(
    repo_id: str, revision: str | None, *, create_pr: bool, private: bool
) -> Destination:
    address = (isinstance(repo_id, str) and parse_address(repo_id)) or HubAddress(repo_id)
    if address.revision:
        revision = choose_revision(address, revision, text=repo_id)
    branch = revision or DEFAULT_BRANCH
    return Destination(address.repo_id, branch, create_pr=create_pr, private=private)


def publish(
    checkpoint: StrPath,
    destination: Destination,
    *,
    max_commit_files: int = MAX_COMMIT_FILES,
    progress: Progress | None = None,
) -> PushResult:
    """Do what `push` does, with at most `max_commit_files` files in a commit."""
    recorded = RecordedProgress(progress)
    with open_publication(checkpoint, destination, recorded) as publication:
        _refuse_unsound(checkpoint, recorded)
        recorded.step("plan")
        inputs = look(publication)
        plan = build_push_plan(inputs)
        recorded.warn_all(plan.warnings)
        if not plan.pending:
            return _result(publication, plan, sent=None)
        recorded.step("create")
        parent = create_target(publication, plan)
        try:
            sent = _send(publication, plan, parent=parent, max_commit_files=max_commit_files)
        except CopyRefusedError as refused:
            _refuse_overlay(publication, refused)
            recorded.warn(f"the Hub does not copy from the source, so upload: {refused}")
            plan = build_push_plan(inputs, copyable=False)
            sent = _send(publication, plan, parent=parent, max_commit_files=max_commit_files)
        return _result(publication, plan, sent=sent)


@dataclass(frozen=True)
class _Sent:
    published: Published
    new_bytes: int


def _send(publication: Publication, plan: PushPlan, *, parent: str, max_commit_files: int) -> _Sent:
    fetch_missing(publication, plan)
    files = open_files(publication, plan)
    uploads = [file for file in files if isinstance(file, LocalFile)]
    portions = split_commits(files, max_files=max_commit_files)
    proposing = plan.create_pr or len(portions) > 1
    new_bytes = upload(publication, plan, uploads, proposing=proposing)
    before = publication.target.list_files(parent)
    published = commit(publication, portions, parent=parent, proposing=proposing)
    after = publication.target.list_files(published.commit_sha)
    sent = content_ids(publication, uploads, after)
    extended = attributes_extended(
        publication,
        sent=GIT_ATTRIBUTES in sent,
        before=parent,
        after=published.commit_sha,
    )
    check_published(plan, sent=sent, before=before, after=after, attributes_extended=extended)
    return _Sent(published, new_bytes)


def _refuse_unsound(checkpoint: StrPath, progress: RecordedProgress) -> None:
    verification = verify(checkpoint, progress=progress)
    if not verification.passed:
        first = verification.failed[0]
        raise CheckFailedError(
            f"{checkpoint} does not pass: {first.name}: {first.detail}",
            hint="nothing was sent; `conv2linear verify` shows all checks",
        )


def _refuse_overlay(publication: Publication, refused: CopyRefusedError) -> None:
    if publication.manifest.partial:
        raise HubError(
            f"{publication.destination.repo_id}: the Hub does not copy from the source: {refused}",
            hint="convert without --changed-only, then push the whole checkpoint",
        ) from refused


def _result(publication: Publication, plan: PushPlan, *, sent: _Sent | None) -> PushResult:
    published = sent.published if sent else None
    sha = published.commit_sha if published else plan.parent or ""
    return PushResult(
        repo_id=plan.repo_id,
        revision=plan.branch,
        commit_sha=sha,
        url=published.url if published else publication.target.commit_url(sha),
        is_pull_request=plan.create_pr and published is not None,
        operations=plan.operations,
        uploaded_bytes=plan.uploaded_bytes,
        new_bytes=sent.new_bytes if sent else 0,
        copied_bytes=plan.copied_bytes,
        copied_file_count=plan.copied_file_count,
        warnings=publication.progress.warnings,
    )
