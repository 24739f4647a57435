"""What a push works on: a converted checkpoint, and the place on the Hub where it is to go."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conv2linear.errors import BadCheckpointError, Conv2LinearError, SourceNotFoundError
from conv2linear.files.disk_errors import read_errors, write_errors
from conv2linear.hub.commit import CommitFile, CommitMessage, LocalFile, Published, ServerCopy
from conv2linear.hub.outgoing import Outgoing
from conv2linear.hub.remote import IdKind, RemoteFile
from conv2linear.hub.target import HubTarget
from conv2linear.parallel import default_workers, map_parallel
from conv2linear.paths import StrPath, parse_path
from conv2linear.plan.push import PushPlan, choose_base, refuse_disclosure, refuse_moved_branch
from conv2linear.plan.push_inputs import Destination, PushInputs, SourceAccess
from conv2linear.plan.transfer import Operation, Transfer, names_to_hash
from conv2linear.progress import RecordedProgress
from conv2linear.record.converted import complete_manifest, read_manifest
from conv2linear.record.git_attributes import GIT_ATTRIBUTES, is_extended
from conv2linear.record.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    dump_manifest,
    parse_manifest,
)
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
        manifest = add_made_anew(manifest, folder)
        yield Publication(destination, manifest, outgoing, target, progress)


def add_made_anew(manifest: Manifest, folder: Folder) -> Manifest:
    """Return a record that has the files too which the conversion left out, and are here again."""
    names = [record.name for record in manifest.left_out if record.name in folder.files]
    records = [FileRecord(name, folder.files[name].size_bytes, None) for name in names]
    return replace(manifest, files=(*manifest.files, *records))


def look(publication: Publication) -> PushInputs:
    """Find out what the plan depends on: what the target has, what the source has.

    Raises `HubError` where the target may not have what the source is.
    """
    target, origin = publication.target, publication.manifest.source
    remote = target.look()
    if origin is not None:
        seen = target.look_at_source(origin.repo_id)
        source_access = (
            SourceAccess(seen.repo_id, seen.access) if seen else SourceAccess(origin.repo_id, None)
        )
        refuse_disclosure(publication.destination, remote, source=source_access)
    base = choose_base(publication.destination, remote, origin=origin)
    existing = target.list_files(base.commit_sha) if base.commit_sha else {}
    for record in publication.manifest.left_out:
        if record.name in existing and record.name not in publication.outgoing.folder.files:
            publication.progress.warn(
                f"{record.name} stays on {publication.destination.label}, and is wrong for what is "
                "pushed: a push deletes nothing"
            )
    source = _list_source(publication)
    sizes = {
        name: publication.outgoing.size_bytes(name) for name in publication.outgoing.folder.files
    }
    to_hash = names_to_hash(sizes, source=source, existing=existing)
    hashed_bytes = sum(sizes[name] for name in to_hash)
    with publication.progress.beside("hash", hashed_bytes or None) as on_bytes:
        same = publication.outgoing.same_as(existing, to_hash, on_bytes=on_bytes)
    if base.commit_sha and _has_attributes(publication, existing, base.commit_sha):
        same |= {GIT_ATTRIBUTES}
    return PushInputs(
        manifest=publication.manifest,
        manifest_bytes=sizes[MANIFEST_NAME],
        destination=publication.destination,
        base=base,
        source=source,
        existing=existing,
        already_on_target=same,
        existing_manifest=_read_existing_manifest(publication, existing, base.commit_sha),
    )


def _has_attributes(
    publication: Publication, existing: Mapping[str, RemoteFile], commit_sha: str
) -> bool:
    """Tell whether an earlier push left .gitattributes, and the Hub has at most added to it."""
    outgoing, file = publication.outgoing, existing.get(GIT_ATTRIBUTES)
    is_pushed = MANIFEST_NAME in existing and GIT_ATTRIBUTES in outgoing.folder.files
    if file is None or not is_pushed:
        return False
    own = outgoing.folder.read(GIT_ATTRIBUTES, 0, outgoing.size_bytes(GIT_ATTRIBUTES))
    return is_extended(own, publication.target.read_file(file, commit_sha))


def _read_existing_manifest(
    publication: Publication, existing: Mapping[str, RemoteFile], commit_sha: str | None
) -> Manifest | None:
    """Return the record that the target has, None if it has none or one that cannot be read."""
    file = existing.get(MANIFEST_NAME)
    if file is None or commit_sha is None:
        return None
    content = publication.target.read_file(file, commit_sha)
    try:
        return parse_manifest(content.decode())
    except (Conv2LinearError, UnicodeDecodeError):
        return None


def attributes_extended(publication: Publication, *, sent: bool, before: str, after: str) -> bool:
    """Tell whether .gitattributes is what it should be, apart from rules that the Hub has added.

    At the commit `after` it should be what was `sent`, or else what it was at the commit `before`.
    """
    target, outgoing = publication.target, publication.outgoing
    found = target.list_files(after).get(GIT_ATTRIBUTES)
    if found is None:
        return False
    if sent:
        expected = outgoing.path(GIT_ATTRIBUTES).read_bytes()
    else:
        file = target.list_files(before).get(GIT_ATTRIBUTES)
        expected = target.read_file(file, before) if file else b""
    return is_extended(expected, target.read_file(found, after))


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


def fetch_missing(publication: Publication, plan: PushPlan) -> None:
    """Download the small files that an overlay lacks and the target needs."""
    if plan.missing and publication.manifest.source:
        publication.progress.step("download", plan.downloaded_bytes)
        names = [operation.name for operation in plan.missing]
        publication.outgoing.fetch(
            names, publication.manifest.source, on_bytes=publication.progress.advance
        )


def open_files(publication: Publication, plan: PushPlan) -> list[CommitFile]:
    """Hash the files to upload, and name those that the server is to copy.

    Raises `CheckFailedError` for a file that is not what was converted.
    """
    outgoing, origin = publication.outgoing, publication.manifest.source

    def open_one(operation: Operation, on_bytes: Callable[[int], None]) -> CommitFile:
        if operation.kind is Transfer.COPY and origin:
            return ServerCopy(operation.name, origin)
        return outgoing.open(operation.name, expected=operation.content_id, on_bytes=on_bytes)

    publication.progress.step("hash", plan.uploaded_bytes)
    return map_parallel(
        open_one,
        plan.pending,
        workers=default_workers(),
        on_bytes=publication.progress.advance,
        finish_earlier=True,
    )


def upload(
    publication: Publication, plan: PushPlan, uploads: Sequence[LocalFile], *, proposing: bool
) -> int:
    """Bring the content of large files to the Hub, for a pull request if `proposing`.

    Returns how many bytes of all uploads the Hub did not have, as far as it tells.
    """
    publication.progress.step("upload", plan.uploaded_bytes)
    with read_errors(publication.outgoing.folder.path):
        return publication.target.upload(
            uploads,
            source=publication.manifest.source,
            proposing=proposing,
            on_bytes=publication.progress.advance,
        )


def commit(
    publication: Publication,
    portions: Sequence[Sequence[CommitFile]],
    *,
    parent: str,
    proposing: bool,
) -> Published:
    """Commit one portion, or several to a pull request that is merged unless the user will.

    The branch holds either nothing of the push or all of it.
    """
    publication.progress.step("commit")
    target, message = publication.target, _message(publication.manifest)
    with read_errors(publication.outgoing.folder.path):
        if not proposing:
            return target.commit(portions[0], parent=parent, message=message)
        with target.proposing(portions, parent=parent, message=message) as proposal:
            if publication.destination.create_pr:
                return proposal.published
            # The client cannot merge on a condition: `check_published` finds a later commit.
            head = target.heads().get(publication.destination.branch)
            refuse_moved_branch(publication.destination, expected=parent, found=head)
            return target.merge(proposal)


def _message(manifest: Manifest) -> CommitMessage:
    origin = manifest.source
    made_from = f" from {origin.repo_id} at {origin.commit_sha}" if origin else ""
    return CommitMessage(
        "Store the patch embedding as a linear layer",
        f"Converted{made_from} by conv2linear {manifest.tool}; {MANIFEST_NAME} is the record.",
    )


def content_ids(
    publication: Publication, uploads: Sequence[LocalFile], listed: Mapping[str, RemoteFile]
) -> dict[str, str]:
    """Return the content id of each upload by name, of the kind that the target lists it by."""
    with read_errors(publication.outgoing.folder.path):
        return {
            file.name: file.content_id(
                listed[file.name].id_kind if file.name in listed else IdKind.SHA256
            )
            for file in uploads
        }
