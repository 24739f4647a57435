"""Check a checkpoint against the record of its conversion, `conv2linear.json`."""

from __future__ import annotations

import hashlib
from functools import partial

from conv2linear.checkpoint.index import some
from conv2linear.errors import CheckFailedError, UnsupportedCheckpointError
from conv2linear.operations.verify.needs import (
    NotDoneError,
    SkippedError,
    need_checkpoint,
    need_record,
)
from conv2linear.operations.verify.subject import Subject
from conv2linear.plan.edits import check_edits
from conv2linear.plan.restore import original_headers
from conv2linear.record.comparison import absent_tensors, refuse_other_tensors
from conv2linear.record.consistency import refuse_contradiction
from conv2linear.record.git_attributes import GIT_ATTRIBUTES, is_extended
from conv2linear.record.manifest import (
    MANIFEST_NAME,
    SMALL_BYTES,
    FileRecord,
)
from conv2linear.sources.base import read_text
from conv2linear.text import plural
from conv2linear.version import __version__


def check_record(subject: Subject) -> str:
    """Check that the record is valid and agrees with itself; say what it tells."""
    if subject.manifest_error is not None:
        if isinstance(subject.manifest_error, UnsupportedCheckpointError):
            raise NotDoneError(str(subject.manifest_error))
        raise subject.manifest_error
    manifest = subject.manifest
    if manifest is None:
        raise SkippedError(f"no {MANIFEST_NAME}: made by another tool, or left out")
    refuse_contradiction(manifest)
    origin = manifest.source
    made_from = f"{origin.repo_id} at {origin.commit_sha}" if origin else "a folder"
    overlay = f", an overlay without {len(manifest.absent)} files" if manifest.partial else ""
    return f"written by conv2linear {manifest.tool} from {made_from}{overlay}"


def check_recorded_tensors(subject: Subject) -> str:
    """Check bytes, shapes and headers of the patch embeddings against the record."""
    manifest, checkpoint = need_record(subject), need_checkpoint(subject)
    refuse_other_tensors(checkpoint, manifest)
    absent = absent_tensors(checkpoint, manifest)
    found = [record for record in manifest.tensors if record not in absent]
    for record in found:
        content = checkpoint.read_tensor(record.shard, record.name)
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise CheckFailedError(f"the bytes of {record.name} are not those on record")
    original_headers(checkpoint, manifest)  # what a restoration would write
    count = (
        f"{len(found)} of {len(manifest.tensors)} tensors"
        if absent
        else plural(len(found), "tensor")
    )
    return (
        f"{count} and {plural(len(manifest.shards), 'header')} have the recorded SHA-256"
        + "".join(f"; {each.name} lies in {each.shard}, which is not here" for each in absent)
    )


def check_recorded_files(subject: Subject) -> str:
    """Check that the files are those on record, with the same sizes, and no others.

    Those that are small and lie here are hashed too, and so are the texts that were edited. One
    that the conversion left out may have been made anew.
    """
    manifest, files = need_record(subject), subject.repository.files
    found = {name: info.size_bytes for name, info in files.items() if name != MANIFEST_NAME}
    recorded = {record.name: record.size_bytes for record in manifest.files}
    exempt = {GIT_ATTRIBUTES, *(record.name for record in manifest.left_out)}
    for name in sorted(found.keys() | recorded.keys()):
        if name not in recorded:
            if name in exempt:
                continue
            raise CheckFailedError(f"{name} is not on record: it was added afterwards")
        if name not in found:
            raise CheckFailedError(f"{name} is on record and missing")
        if found[name] != recorded[name] and not is_extended_by_hub(subject, name):
            raise CheckFailedError(
                f"{name} has {found[name]} bytes, recorded were {recorded[name]}"
            )
    hashed = compared_by_record(subject)
    for record in hashed:
        if _hash(subject, record) != record.sha256:
            raise CheckFailedError(f"{record.name} has not the recorded SHA-256")
    return (
        f"{plural(len(recorded), 'file')} with the recorded sizes, {len(hashed)} of them with the "
        f"recorded SHA-256, and no other{_describe_omitted(subject)}"
    )


def _describe_omitted(subject: Subject) -> str:
    """Name what lies there and belongs to no checkpoint: it was not looked at."""
    omitted = subject.repository.omitted
    return f"; not looked at: {some(omitted)}" if omitted else ""


def compared_by_record(subject: Subject) -> list[FileRecord]:
    """Return the files whose SHA-256 on record is compared in every run.

    It is listed by the Hub, or of a file that takes no long reading.
    """
    return [
        record
        for record in need_record(subject).files
        if record.sha256 and (_is_listed(subject, record) or _is_cheap(subject, record))
    ]


def _hash(subject: Subject, record: FileRecord) -> str:
    if _is_listed(subject, record) and record.name != GIT_ATTRIBUTES:
        return subject.repository.files[record.name].sha256 or ""
    content = subject.repository.read(record.name, 0, record.size_bytes)
    return hashlib.sha256(content).hexdigest()


def _is_listed(subject: Subject, record: FileRecord) -> bool:
    """Tell whether the Hub has just listed the SHA-256 of a file."""
    info = subject.repository.files[record.name]
    return info.content_id is not None and info.sha256 is not None


def _is_cheap(subject: Subject, record: FileRecord) -> bool:
    """Tell whether hashing a file takes no longer than all that is read anyway: no shard."""
    is_edited = record.name in {edit.name for edit in need_record(subject).edits}
    is_here = subject.repository.files[record.name].path is not None
    is_small = record.size_bytes <= SMALL_BYTES and not record.name.endswith(".safetensors")
    return is_edited or (is_here and is_small)


def is_extended_by_hub(subject: Subject, name: str) -> bool:
    """Tell whether a file is a `.gitattributes` on record to which the Hub has added rules."""
    records = {record.name: record for record in need_record(subject).files}
    if name != GIT_ATTRIBUTES or name not in records:
        return False
    found = subject.repository.read(name, 0, subject.repository.files[name].size_bytes)
    original = found[: records[name].size_bytes]
    if records[name].sha256 not in (None, hashlib.sha256(original).hexdigest()):
        return False
    return len(found) > len(original) and is_extended(original, found)


def check_recorded_edits(subject: Subject) -> str:
    """Check that each edited file is what editing the original on record gives.

    An edit of another version of the tool is judged by what that version could do.
    """
    manifest = need_record(subject)
    for edit in manifest.edits:
        if edit.name not in subject.repository.files:
            raise CheckFailedError(f"{edit.name} is missing")
    headers = subject.checkpoint.headers if subject.checkpoint else {}
    is_known = check_edits(manifest, read=partial(read_text, subject.repository), headers=headers)
    follow = [name for name, known in is_known.items() if known]
    unknown = [name for name, known in is_known.items() if not known]
    if not follow:
        raise SkippedError("no edit that this version can make again")
    tool = manifest.tool
    rules = "" if tool == __version__ else f", as far as conv2linear {tool} may have edited them"
    others = f"; not so {', '.join(unknown)}, edited by conv2linear {tool}" if unknown else ""
    return f"{', '.join(follow)} follow from the recorded originals{rules}{others}"
