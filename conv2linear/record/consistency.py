"""Hold a record against itself: what it says in one place must agree with every other place."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace

from conv2linear.checkpoint.adapter.adapter import ADAPTER_MODEL_TYPE
from conv2linear.errors import CheckFailedError
from conv2linear.record.manifest import MANIFEST_NAME, Manifest
from conv2linear.record.tool_version import Release, parse_release

_SELF_CONTAINED_SINCE: Release = (0, 2)  # the first version that identifies the source
_SHA256 = re.compile("[0-9a-f]{64}")
_LONGEST_SHOWN = 40  # characters of what may be any text
_Entry = tuple[str, int | None, str | None]


def hash_source_listing(manifest: Manifest) -> str:
    """Return the SHA-256 of what a record says that its source was.

    That is the repository with its commit, the tensors of the patch embedding, and each file with
    name and size; a text of which the record has the original counts with its hash, a reshaped
    shard with that of its header. So an entry that is taken out of a record, or changed in it,
    shows: a restoration by it would not give back what was. Hashes that are put on record later do
    not count, nor where an overlay's files are.
    """
    origin = manifest.source
    made_from = None if origin is None else [origin.repo_id, origin.commit_sha]
    files = sorted(_source_files(manifest), key=lambda entry: entry[0])
    tensors = [(t.name, t.shard, t.dtype, t.shape_before, t.sha256) for t in manifest.tensors]
    document = json.dumps([made_from, sorted(tensors), files])
    return hashlib.sha256(document.encode()).hexdigest()


def complete_listing(manifest: Manifest) -> Manifest:
    """Return a record that says what its source was, whatever becomes of its other entries."""
    return replace(manifest, source_listing_sha256=hash_source_listing(manifest))


def _source_files(manifest: Manifest) -> Iterator[_Entry]:
    """Yield name, size and hash of each file that the source had, as far as they are on record."""
    originals = {edit.name: edit.original for edit in manifest.edits}
    headers = {shard.name: shard for shard in manifest.shards}
    kept = {record.name: record.content for record in manifest.left_out}
    for record in (*manifest.files, *manifest.absent):
        if shard := headers.get(record.name):
            size = record.size_bytes if shard.header_before is None else None
            yield record.name, size, shard.header_sha256_before
        elif record.name not in originals and record.name not in kept:
            yield record.name, record.size_bytes, None
    for name, text in originals.items():
        if text is not None:
            yield name, len(text.encode()), _sha256(text)
        elif name == MANIFEST_NAME:
            yield name, None, None  # it was there, and not text
    for name, content in kept.items():
        yield name, len(content), hashlib.sha256(content).hexdigest()


def refuse_contradiction(manifest: Manifest) -> None:
    """Raise `CheckFailedError` where a record says two things of which one must be false."""
    problem = next(_find_problems(manifest), None)
    if problem is not None:
        raise CheckFailedError(
            f"{MANIFEST_NAME} contradicts itself: {problem}",
            hint="it was changed afterwards: without it `conv2linear verify --source SOURCE` "
            "compares, and a restoration goes by config.json",
        )


def _find_problems(manifest: Manifest) -> Iterator[str]:
    yield from _find_missing_fields(manifest)
    yield from _find_wrong_checks(manifest)
    yield from _find_wrong_extent(manifest)
    yield from _find_wrong_tensors(manifest)
    here = {record.name for record in manifest.files}
    for edit in manifest.edits:
        if edit.name not in here and edit.name != MANIFEST_NAME:
            yield f"{edit.name} is edited, and is none of the files"
    hashes = [(record.name, record.sha256) for record in (*manifest.files, *manifest.absent)]
    for name, sha256 in [*hashes, *((tensor.name, tensor.sha256) for tensor in manifest.tensors)]:
        if sha256 is not None and not _SHA256.fullmatch(sha256):
            yield f"{sha256!r} is no SHA-256 of {name}"
    for left_out in manifest.left_out:
        if (left_out.text is None) == (left_out.base64 is None):
            yield f"{left_out.name} must be kept as text or as base64"
    if manifest.source_listing_sha256 not in (None, hash_source_listing(manifest)):
        yield "what it has of the source's files is not what it had when it was written"


def _find_missing_fields(manifest: Manifest) -> Iterator[str]:
    """Find what the version that wrote a record always writes down, and is not in it.

    Else a record from which that is taken out would be judged as one of an earlier version. One
    that has what no such version wrote is not of one, whatever it says.
    """
    release = parse_release(manifest.tool)
    if release is None:
        yield f"{manifest.tool[:_LONGEST_SHOWN]!a} is no version of conv2linear"
        return
    added = (manifest.loaders, manifest.left_out, manifest.subfolder, manifest.compatibility)
    if release < _SELF_CONTAINED_SINCE and not any(added):
        return
    since = ".".join(map(str, _SELF_CONTAINED_SINCE))
    if manifest.source_listing_sha256 is None:
        yield f"it does not identify the source, as conv2linear {since} and later always do"
    if manifest.loaders is None and manifest.model_type != ADAPTER_MODEL_TYPE:
        yield f"it does not say for which loaders it is, as conv2linear {since} and later always do"


def _find_wrong_checks(manifest: Manifest) -> Iterator[str]:
    """Find figures of a check that no check which has passed can have."""
    for check in manifest.check:
        for error in (check.linear_max_abs_error, check.linear_max_error_over_bound):
            if not math.isfinite(error) or error < 0:
                yield f"{error} is no error that was measured for {check.tensor}"
        if check.linear_max_error_over_bound > 1:
            yield f"the check of {check.tensor} did not pass"


def _find_wrong_extent(manifest: Manifest) -> Iterator[str]:
    """Find an overlay that has more than was changed, and a whole checkpoint that lacks files."""
    if not manifest.partial:
        for record in manifest.absent:
            yield f"{record.name} is absent, though it is no overlay"
        return
    changed = {edit.name for edit in manifest.edits} | {shard.name for shard in manifest.shards}
    for record in manifest.files:
        if record.name not in changed:
            yield f"it is an overlay, and {record.name} is here, which was not changed"
    if not manifest.absent and manifest.source_listing_sha256 is not None:
        yield "it is an overlay, and lacks no file"


def _find_wrong_tensors(manifest: Manifest) -> Iterator[str]:
    """Find shards and tensors that do not belong to each other, or to no file."""
    here = {record.name for record in manifest.files}
    known = here | {record.name for record in manifest.absent}
    shards = {shard.name for shard in manifest.shards}
    for tensor in manifest.tensors:
        if tensor.shard not in known:
            yield f"{tensor.name} lies in {tensor.shard}, which is none of the files"
        if tensor.shape_before != tensor.shape_after and tensor.shard not in shards:
            yield f"{tensor.name} has another shape, and {tensor.shard} no other header"
    for shard in manifest.shards:
        if shard.name not in here:
            yield f"{shard.name} has another header, and is none of the files"
        if shard.name not in {tensor.shard for tensor in manifest.tensors}:
            yield f"{shard.name} has another header, and no tensor of it another shape"
        before = shard.header_before
        if before is not None and _sha256(before) != shard.header_sha256_before:
            yield f"the header that {shard.name} had is not the one with the hash on record"
    names = {tensor.name for tensor in manifest.tensors}
    for check in manifest.check:
        if check.tensor not in names:
            yield f"{check.tensor} was checked, and is none of the tensors"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
