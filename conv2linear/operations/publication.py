"""What a push works on: a converted checkpoint, and the place on the Hub where it is to go."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conv2linear.errors import BadCheckpointError, SourceNotFoundError
from conv2linear.files.disk_errors import read_errors, write_errors
from conv2linear.hub.commit import CommitFile, CommitMessage, LocalFile, Published, ServerCopy
from conv2linear.hub.outgoing import Outgoing
from conv2linear.hub.remote import IdKind, RemoteFile
from conv2linear.hub.target import HubTarget
from conv2linear.paths import StrPath, parse_path
from conv2linear.plan.push import (
    Destination,
    PushInputs,
    PushPlan,
    check_published,
    choose_base,
    refuse_moved_branch,
    split_commits,
)
from conv2linear.plan.transfer import Operation, Transfer, names_to_hash
from conv2linear.progress import RecordedProgress
from conv2linear.record.converted import complete_manifest, read_manifest
from conv2linear.record.manifest import MANIFEST_NAME, Manifest, dump_manifest
from conv2linear.sources.folder import Folder


@dataclass(frozen=True)
class Publication:
    """A converted checkpoint, where it is to go, and what speaks to user and Hub meanwhile."""

    destination: Destination
    manifest: Manifest
    outgoing: Outgoing
    target: HubTarget
    progress: RecordedProgress


@contextlib.contextmanager
def open_publication(
    checkpoint: StrPath, destination: Destination, progress: RecordedProgress
) -> Iterator[Publication]:
    """Open a converted checkpoint, with the record that it has once an overlay is complete."""
    target = HubTarget(destination.repo_id, destination.branch)
    path = parse_path(checkpoint, what="checkpoint", error=SourceNotFoundError)
    with read_errors(path):
        folder = Folder(path)
        manifest = read_manifest(folder)
    if manifest is None:
        raise BadCheckpointError(
            f"{folder.label}: no {MANIFEST_NAME}",
            hint="`conv2linear convert` makes what can be pushed",
        )
    with contextlib.ExitStack() as stack:
        with write_errors(tempfile.gettempdir()):
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="conv2linear-"))
        outgoing = Outgoing(folder, Path(scratch))
        if manifest.partial:
            outgoing.replace(MANIFEST_NAME, dump_manifest(complete_manifest(manifest)))
        yield Publication(destination, manifest, outgoing, target, progress)


def look(publication: Publication) -> PushInputs:
    """Find out what the plan depends on: what the target has, what the source has."""
    base = choose_base(
        publication.destination, publication.target.look(), origin=publication.manifest.source
    )
    existing = publication.target.list_files(base.commit_sha) if base.commit_sha else {}
    source = _list_source(publication)
    sizes = {
        name: publication.outgoing.size_bytes(name) for name in publication.outgoing.folder.files
    }
    to_hash = names_to_hash(sizes, source=source, existing=existing)
    return PushInputs(
        manifest=publication.manifest,
        manifest_bytes=sizes[MANIFEST_NAME],
        destination=publication.destination,
        base=base,
        source=source,
        existing=existing,
        already_on_target=publication.outgoing.same_as(existing, to_hash),
    )


def _list_source(publication: Publication) -> Mapping[str, RemoteFile]:
    """Return the files of the source at the recorded commit; none if they cannot be read."""
    origin = publication.manifest.source
    if origin is None:
        return {}
    try:
        return publication.target.list_files(origin.commit_sha, repo_id=origin.repo_id)
    except SourceNotFoundError as error:
        if publication.manifest.partial:
            raise
        publication.progress.warn(f"nothing is copied on the server: {error}")
        return {}


def create_target(publication: Publication, plan: PushPlan) -> str:
    """Make the repository and the branch where they are missing; return the commit there."""
    if plan.creates_repository:
        publication.target.create_repository(private=plan.private)
    if plan.creates_branch:
        publication.target.create_branch(plan.parent)
    return plan.parent or publication.target.head()


def send(
    publication: Publication, plan: PushPlan, *, parent: str, max_commit_files: int
) -> Published:
    """Fetch what is missing, upload, commit, and check what was published."""
    if plan.missing and publication.manifest.source:
        publication.progress.step("download", plan.downloaded_bytes)
        names = [operation.name for operation in plan.missing]
        publication.outgoing.fetch(
            names, publication.manifest.source, on_bytes=publication.progress.advance
        )
    files = [_commit_file(publication, operation) for operation in plan.pending]
    uploads = [file for file in files if isinstance(file, LocalFile)]
    portions = split_commits(files, max_files=max_commit_files)
    proposing = plan.create_pr or len(portions) > 1
    publication.progress.step("upload", plan.uploaded_bytes)
    with read_errors(publication.outgoing.folder.path):
        publication.target.upload(
            uploads, proposing=proposing, on_bytes=publication.progress.advance
        )
        publication.progress.step("commit")
        before = publication.target.list_files(parent)
        published = _commit(publication, portions, parent=parent, proposing=proposing)
        after = publication.target.list_files(published.commit_sha)
        sent = {
            file.name: file.content_id(
                after[file.name].id_kind if file.name in after else IdKind.SHA256
            )
            for file in uploads
        }
    check_published(plan, sent=sent, before=before, after=after)
    return published


def _commit_file(publication: Publication, operation: Operation) -> CommitFile:
    if operation.kind is Transfer.COPY and publication.manifest.source:
        return ServerCopy(operation.name, publication.manifest.source)
    return publication.outgoing.open(operation.name, expected=operation.content_id)


def _commit(
    publication: Publication,
    portions: Sequence[Sequence[CommitFile]],
    *,
    parent: str,
    proposing: bool,
) -> Published:
    """Commit at once, or in portions to a pull request that is merged unless the user will.

    The branch holds either nothing of the push or all of it.
    """
    message = _message(publication.manifest)
    if not proposing:
        return publication.target.commit(portions[0], parent=parent, message=message)
    with publication.target.proposing(portions, parent=parent, message=message) as proposal:
        if publication.destination.create_pr:
            return proposal.published
        # The client cannot merge on a condition: a commit of the last moment is found afterwards.
        head = publication.target.heads().get(publication.destination.branch)
        refuse_moved_branch(publication.destination, expected=parent, found=head)
        return publication.target.merge(proposal)


def _message(manifest: Manifest) -> CommitMessage:
    origin = manifest.source
    made_from = f" from {origin.repo_id} at {origin.commit_sha}" if origin else ""
    return CommitMessage(
        "Store the patch embedding as a linear layer",
        f"Converted{made_from} by conv2linear {manifest.tool}; {MANIFEST_NAME} is the record.",
    )
