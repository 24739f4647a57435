"""`push`: verify, plan, and publish a converted checkpoint on the Hub by one commit."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.errors import CheckFailedError, HubError
from conv2linear.hub.commit import Published
from conv2linear.hub.errors import CopyRefusedError
from conv2linear.hub.remote import DEFAULT_BRANCH
from conv2linear.operations.publication import (
    Publication,
    create_target,
    look,
    open_publication,
    send,
)
from conv2linear.operations.verify.verify import verify
from conv2linear.paths import StrPath
from conv2linear.plan.push import Destination, PushPlan, build_push_plan
from conv2linear.plan.transfer import Operation
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.result import Result

# huggingface.co/docs/hub/repositories-recommendations: fewer than 100 files a commit.
MAX_COMMIT_FILES = 99


@dataclass(frozen=True)
class PushResult(Result):
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
    destination = Destination(
        repo_id, revision or DEFAULT_BRANCH, create_pr=create_pr, private=private
    )
    with open_publication(checkpoint, destination, RecordedProgress(progress)) as publication:
        return build_push_plan(look(publication))


def push(
    checkpoint: StrPath,
    repo_id: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    private: bool = False,
    progress: Progress | None = None,
) -> PushResult:
    """Publish a converted checkpoint, complete or an overlay, as `repo_id` on the Hub.

    It is verified first. Then the branch `revision` (main) gets all files by one commit, or by
    the merge of a pull request where they are too many, or not at all: changed ones are uploaded,
    large ones that the source has are copied on the server. In the repository of the source, a
    branch that does not exist starts at the recorded commit. With `create_pr` the files are
    proposed, with `private` a new repository is made so.

    Raises `CheckFailedError` where the checkpoint does not pass, or the Hub holds other content
    than was sent, and what `plan_push` raises.
    """
    destination = Destination(
        repo_id, revision or DEFAULT_BRANCH, create_pr=create_pr, private=private
    )
    return publish(checkpoint, destination, progress=progress)


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
        if not plan.pending:
            return _result(publication, plan, published=None)
        recorded.step("create")
        parent = create_target(publication, plan)
        try:
            published = send(publication, plan, parent=parent, max_commit_files=max_commit_files)
        except CopyRefusedError as refused:
            _refuse_overlay(publication, refused)
            recorded.warn(f"the Hub does not copy from the source, so upload: {refused}")
            plan = build_push_plan(inputs, copyable=False)
            published = send(publication, plan, parent=parent, max_commit_files=max_commit_files)
        return _result(publication, plan, published=published)


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


def _result(publication: Publication, plan: PushPlan, *, published: Published | None) -> PushResult:
    sha = published.commit_sha if published else plan.parent or ""
    return PushResult(
        repo_id=plan.repo_id,
        revision=plan.branch,
        commit_sha=sha,
        url=published.url if published else publication.target.commit_url(sha),
        is_pull_request=plan.create_pr and published is not None,
        operations=plan.operations,
        uploaded_bytes=plan.uploaded_bytes,
        copied_bytes=plan.copied_bytes,
        copied_file_count=plan.copied_file_count,
        warnings=publication.progress.warnings,
    )
