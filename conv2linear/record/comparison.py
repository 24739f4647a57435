"""Compare the files of a converted checkpoint with those on its record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.errors import BadCheckpointError, CheckFailedError
from conv2linear.record.consistency import refuse_contradiction
from conv2linear.record.converted import read_manifest
from conv2linear.record.git_attributes import GIT_ATTRIBUTES
from conv2linear.record.manifest import MANIFEST_NAME, FileRecord, Manifest, TensorRecord
from conv2linear.sources.base import FileInfo, Repository

CHANGED_HINT = (
    "`conv2linear verify` tells more; without conv2linear.json a restoration goes by config.json"
)


def read_intact_manifest(repository: Repository) -> Manifest | None:
    """Read the record that a restoration goes by; None where the files have none.

    Raises `CheckFailedError` where it is not valid or contradicts itself: then nobody knows what
    the files were.
    """
    try:
        manifest = read_manifest(repository)
    except BadCheckpointError as error:
        raise changed(str(error)) from error
    if manifest is not None:
        refuse_contradiction(manifest)
    return manifest


def refuse_changed_listing(files: Mapping[str, FileInfo], manifest: Manifest) -> None:
    """Raise `CheckFailedError` where files are missing, were added, or have another size or hash.

    One that was left out may have been made anew.

    A hash is compared where both record and listing have one. A `.gitattributes` may be another
    one, for the Hub makes and extends it by itself.
    """
    recorded = {record.name: record for record in manifest.files}
    exempt = {MANIFEST_NAME, GIT_ATTRIBUTES, *(record.name for record in manifest.left_out)}
    for name in sorted((files.keys() | recorded.keys()) - exempt):
        if name not in files:
            raise changed(f"{name} is on record and missing")
        if name not in recorded:
            raise changed(f"{name} is not on record: it was added afterwards")
        _refuse_changed_file(files[name], recorded[name])


def refuse_changed_edits(repository: Repository, manifest: Manifest) -> None:
    """Raise `CheckFailedError` where a text that the conversion edited was edited again."""
    edited = {edit.name for edit in manifest.edits}
    for record in manifest.files:
        if record.name in edited and record.sha256 is not None:
            content = repository.read(record.name, 0, repository.files[record.name].size_bytes)
            refuse_other_hash(record, hashlib.sha256(content).hexdigest())


def refuse_other_tensors(checkpoint: Checkpoint, manifest: Manifest) -> None:
    """Raise `CheckFailedError` where model type, headers or tensors are not those on record.

    Every weight and bias of a patch embedding must be there, with its dtype, its shape and its
    shard; an overlay may lack a bias's shard. Their bytes are not read.
    """
    if manifest.model_type != checkpoint.config.model_type:
        raise changed(
            f"the model type is {checkpoint.config.model_type}, {manifest.model_type} is on record"
        )
    names = {record.name for record in manifest.tensors}
    for embedding in checkpoint.patch_embeddings:
        for name in (embedding.name, embedding.bias):
            if name not in {None, *names}:
                raise changed(f"{name} is not in the record")
    absent = absent_tensors(checkpoint, manifest)
    for record in manifest.tensors:
        if record not in absent:
            _refuse_other_tensor(checkpoint, record)
    for shard in manifest.shards:
        header = checkpoint.headers.get(shard.name)
        if header is None or header.sha256 != shard.header_sha256_after:
            raise changed(f"the header of {shard.name} is not the one on record")


def absent_tensors(checkpoint: Checkpoint, manifest: Manifest) -> list[TensorRecord]:
    """Return the tensors on record that lie in shards which an overlay does not have."""
    return [
        record
        for record in manifest.tensors
        if manifest.partial and record.shard not in checkpoint.headers
    ]


def _refuse_other_tensor(checkpoint: Checkpoint, record: TensorRecord) -> None:
    header = checkpoint.headers.get(record.shard)
    info = header.tensors.get(record.name) if header else None
    if info is None:
        raise changed(f"{record.name} is not in {record.shard}")
    if (info.dtype, info.shape) != (record.dtype, record.shape_after):
        raise changed(
            f"{record.name} is {info.dtype} {list(info.shape)}, recorded as {record.dtype} "
            f"{list(record.shape_after)}"
        )


def refuse_other_hash(record: FileRecord, sha256: str) -> None:
    """Raise `CheckFailedError` where a file has not the SHA-256 on record, if one is."""
    if record.sha256 not in (None, sha256):
        raise changed(f"{record.name} has SHA-256 {sha256}, recorded was {record.sha256}")


def recover_git_attributes(repository: Repository, manifest: Manifest) -> str | None:
    """Return the original text of a `.gitattributes` that was extended, None if it was not.

    The Hub appends to it: what comes before is the original if it has the hash on record. Raises
    `CheckFailedError` where it is missing or another one.
    """
    record = next((file for file in manifest.files if file.name == GIT_ATTRIBUTES), None)
    if record is None:
        return None
    info = repository.files.get(GIT_ATTRIBUTES)
    if info is None:
        raise changed(f"{GIT_ATTRIBUTES} is on record and missing")
    if info.size_bytes <= record.size_bytes or record.sha256 is None:
        _refuse_changed_file(info, record)
        return None
    original = repository.read(GIT_ATTRIBUTES, 0, record.size_bytes)
    refuse_other_hash(record, hashlib.sha256(original).hexdigest())
    try:
        return original.decode()
    except UnicodeDecodeError:
        raise changed(f"{GIT_ATTRIBUTES} was extended, and is not text") from None


def changed(message: str) -> CheckFailedError:
    """Return the error that says that a checkpoint is not what its record says."""
    return CheckFailedError(message, hint=CHANGED_HINT)


def _refuse_changed_file(info: FileInfo, record: FileRecord) -> None:
    if info.size_bytes != record.size_bytes:
        raise changed(f"{info.name} has {info.size_bytes} bytes, recorded were {record.size_bytes}")
    if info.sha256 is not None:
        refuse_other_hash(record, info.sha256)
