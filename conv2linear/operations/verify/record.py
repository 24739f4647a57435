"""Check a checkpoint against the record of its conversion, `conv2linear.json`."""

from __future__ import annotations

import hashlib

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.needs import SkippedError, need_checkpoint, need_record
from conv2linear.operations.verify.source import GIT_ATTRIBUTES
from conv2linear.operations.verify.subject import Subject
from conv2linear.plan.edits import repeat_edit
from conv2linear.record.manifest import MANIFEST_NAME, Manifest, TensorRecord
from conv2linear.sources.base import read_text
from conv2linear.text import plural


def check_record(subject: Subject) -> str:
    """Check that the record is valid, and say what it tells of the conversion."""
    if subject.manifest_error is not None:
        raise subject.manifest_error
    manifest = subject.manifest
    if manifest is None:
        raise SkippedError(f"no {MANIFEST_NAME}: made by another tool, or left out")
    origin = manifest.source
    made_from = f"{origin.repo_id} at {origin.commit_sha}" if origin else "a folder"
    overlay = f", an overlay without {len(manifest.absent)} files" if manifest.partial else ""
    return f"written by conv2linear {manifest.tool} from {made_from}{overlay}"


def check_recorded_tensors(subject: Subject) -> str:
    """Check bytes, shapes and headers of the patch embeddings against the record."""
    manifest, checkpoint = need_record(subject), need_checkpoint(subject)
    names = {record.name for record in manifest.tensors}
    for embedding in checkpoint.patch_embeddings:
        if embedding.name not in names:
            raise CheckFailedError(f"{embedding.name} is not in the record")
    shard_of = {name: shard for shard, h in checkpoint.headers.items() for name in h.tensors}
    for record in _expected_tensors(manifest, checkpoint):
        if shard_of.get(record.name) != record.shard:
            raise CheckFailedError(f"{record.name} is not in {record.shard}")
        _check_tensor(record, checkpoint)
    for shard in manifest.shards:
        header = checkpoint.headers.get(shard.name)
        if header is None or header.sha256 != shard.header_sha256_after:
            raise CheckFailedError(f"the header of {shard.name} is not the one on record")
    tensors = plural(len(manifest.tensors), "tensor")
    return f"{tensors} and {plural(len(manifest.shards), 'header')} have the recorded SHA-256"


def _expected_tensors(manifest: Manifest, checkpoint: Checkpoint) -> list[TensorRecord]:
    """Return the tensors on record that should be here: an overlay may lack the bias's shard."""
    return [
        record
        for record in manifest.tensors
        if record.shard in checkpoint.headers or not manifest.partial
    ]


def _check_tensor(record: TensorRecord, checkpoint: Checkpoint) -> None:
    info = checkpoint.headers[record.shard].tensors[record.name]
    if (info.dtype, info.shape) != (record.dtype, record.shape_after):
        raise CheckFailedError(
            f"{record.name} is {info.dtype} {list(info.shape)}, recorded as {record.dtype} "
            f"{list(record.shape_after)}"
        )
    content = checkpoint.read_tensor(record.shard, record.name)
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise CheckFailedError(f"the bytes of {record.name} are not those on record")


def check_recorded_files(subject: Subject) -> str:
    """Check that the files are those on record, with the same sizes, and no others."""
    files = subject.repository.files
    found = {name: info.size_bytes for name, info in files.items() if name != MANIFEST_NAME}
    recorded = {record.name: record.size_bytes for record in need_record(subject).files}
    for name in sorted(found.keys() | recorded.keys()):
        if name not in recorded:
            if name == GIT_ATTRIBUTES:
                continue
            raise CheckFailedError(f"{name} is not on record: it was added afterwards")
        if name not in found:
            raise CheckFailedError(f"{name} is on record and missing")
        if found[name] != recorded[name]:
            raise CheckFailedError(
                f"{name} has {found[name]} bytes, recorded were {recorded[name]}"
            )
    return f"{plural(len(recorded), 'file')} with the recorded sizes, and no other"


def check_recorded_edits(subject: Subject) -> str:
    """Check that each edited file is what editing the original on record gives."""
    manifest, done = need_record(subject), []
    for edit in manifest.edits:
        expected = repeat_edit(edit, manifest)
        if expected is None:
            continue
        if edit.name not in subject.repository.files:
            raise CheckFailedError(f"{edit.name} is missing")
        if read_text(subject.repository, edit.name) != expected:
            raise CheckFailedError(f"{edit.name} is not what editing the recorded original gives")
        done.append(edit.name)
    if not done:
        raise SkippedError("no edit that this version can make again")
    return f"{', '.join(done)} follow from the recorded originals"
