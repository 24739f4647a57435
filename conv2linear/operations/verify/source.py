"""Compare a linear checkpoint with the source that it was made from, byte for byte."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME, parse_config
from conv2linear.checkpoint.header import LENGTH_BYTES, Header
from conv2linear.errors import CheckFailedError
from conv2linear.files.hash import update_hash
from conv2linear.parallel import map_parallel
from conv2linear.plan.actions import Action
from conv2linear.plan.convert import ConversionPlan, build_plan
from conv2linear.progress import Progress
from conv2linear.record.manifest import MANIFEST_NAME
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.sources.base import Repository
from conv2linear.text import plural

GIT_ATTRIBUTES = ".gitattributes"  # a Hub repository gets one of its own
_CHUNK_BYTES = 1 << 20


def compare_with_source(
    checkpoint: Checkpoint,
    source: Checkpoint,
    *,
    partial: bool,
    model_card: str | None,
    workers: int,
    progress: Progress,
) -> str:
    """Check that a checkpoint is what converting `source` gives, and say what was compared.

    Every tensor has the same bytes and, but for the patch embeddings, the same shape; every other
    file is the same, but for the edits. `model_card` is the text that README.md should have, None
    where that is not known; it is then not compared. Raises `CheckFailedError` with the first
    difference.
    """
    plan = build_plan(source, allow_unsafe_quantization=True, changed_only=partial)
    expected = parse_config(next(f.text or "" for f in plan.files if f.name == CONFIG_NAME))
    if checkpoint.config.values != expected.values:
        key = _first_difference(checkpoint.config.values, expected.values)
        raise CheckFailedError(f"{CONFIG_NAME}: {key} is not what the source gives")
    shards = sorted(checkpoint.headers)
    _check_tensors(checkpoint, source, plan, partial=partial)
    files = _other_files(checkpoint, plan)
    if model_card is not None:
        _check_model_card(checkpoint.repository, model_card)

    def compare_shard(shard: str, on_bytes: Callable[[int], None]) -> None:
        _compare_shard(checkpoint, source, shard, on_bytes)

    def compare_file(name: str, on_bytes: Callable[[int], None]) -> None:
        _compare_file(checkpoint.repository, source.repository, name, on_bytes)

    sizes = {name: info.size_bytes for name, info in checkpoint.files.items()}
    progress.step("compare with the source", sum(sizes[name] for name in shards + files))
    map_parallel(compare_shard, shards, workers=workers, progress=progress)
    map_parallel(compare_file, files, workers=workers, progress=progress)
    tensors = sum(len(header.tensors) for header in checkpoint.headers.values())
    return (
        f"{plural(tensors, 'tensor')} in {plural(len(shards), 'shard')} and "
        f"{plural(len(files), 'other file')}: every byte is the source's"
    )


def _first_difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    return min(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))


def _check_tensors(
    checkpoint: Checkpoint, source: Checkpoint, plan: ConversionPlan, *, partial: bool
) -> None:
    """Check names, shards, dtypes and shapes; offsets may differ."""
    reshaped = {file.name: file.header for file in plan.reshaped if file.header}
    expected_shards = set(reshaped if partial else source.headers)
    if set(checkpoint.headers) != expected_shards:
        shard = min(set(checkpoint.headers) ^ expected_shards)
        raise CheckFailedError(f"shard {shard} is in only one of checkpoint and source")
    for shard, header in checkpoint.headers.items():
        expected = reshaped.get(shard, source.headers[shard])
        if header.tensors.keys() != expected.tensors.keys():
            name = min(header.tensors.keys() ^ expected.tensors.keys())
            raise CheckFailedError(f"{shard}: tensor {name!r} is in only one of the two")
        for name, info in header.tensors.items():
            other = expected.tensors[name]
            if (info.dtype, info.shape) != (other.dtype, other.shape):
                raise CheckFailedError(
                    f"{shard}: tensor {name!r} is {info.dtype} {list(info.shape)}, "
                    f"expected {other.dtype} {list(other.shape)}"
                )


def _other_files(checkpoint: Checkpoint, plan: ConversionPlan) -> list[str]:
    """Return the files that pass through; the list of files must be the planned one."""
    planned = {file.name for file in plan.written} - {MODEL_CARD_NAME}
    found = set(checkpoint.files) - {MANIFEST_NAME, MODEL_CARD_NAME}
    difference = (planned ^ found) - {GIT_ATTRIBUTES}
    if difference:
        name = min(difference)
        where = "the source does not have it" if name in found else "the source has it"
        raise CheckFailedError(f"{name}: {where}")
    passed = {file.name for file in plan.with_action(Action.COPY)} & found
    return sorted(passed - set(checkpoint.headers) - {GIT_ATTRIBUTES})


def _check_model_card(repository: Repository, expected: str) -> None:
    info = repository.files.get(MODEL_CARD_NAME)
    found = repository.read(MODEL_CARD_NAME, 0, info.size_bytes) if info else b""
    if found != expected.encode():
        raise CheckFailedError(f"{MODEL_CARD_NAME} is not what the source gives")


def _compare_shard(
    checkpoint: Checkpoint, source: Checkpoint, shard: str, on_bytes: Callable[[int], None]
) -> None:
    ours, theirs = checkpoint.files[shard], source.files[shard]
    header, other = checkpoint.headers[shard], source.headers[shard]
    if ours.path and theirs.path and ours.path.samefile(theirs.path):
        on_bytes(ours.size_bytes)  # hard links of one file
    elif ours.path and theirs.sha256 and not theirs.path and _same_offsets(header, other):
        # The source's own header in front of our data must give the source's hash.
        digest = hashlib.sha256(len(other.raw).to_bytes(LENGTH_BYTES, "little") + other.raw)
        update_hash(digest, ours.path, start=header.data_start, on_bytes=on_bytes)
        if digest.hexdigest() != theirs.sha256:
            raise CheckFailedError(f"{shard}: the tensors' bytes are not those of the source")
    else:
        _compare_tensors(checkpoint, source, shard, on_bytes)


def _same_offsets(one: Header, two: Header) -> bool:
    return all(
        info.data_offsets == two.tensors[name].data_offsets for name, info in one.tensors.items()
    )


class _Segment(NamedTuple):
    """Bytes that lie in one piece in both files; `first` is the first tensor in it."""

    ours: int
    theirs: int
    length: int
    names: list[str]
    starts: list[int]


def _compare_tensors(
    checkpoint: Checkpoint, source: Checkpoint, shard: str, on_bytes: Callable[[int], None]
) -> None:
    for segment in _segments(checkpoint.headers[shard], source.headers[shard]):
        for start in range(0, segment.length, _CHUNK_BYTES):
            length = min(_CHUNK_BYTES, segment.length - start)
            one = checkpoint.repository.read(shard, segment.ours + start, length)
            two = source.repository.read(shard, segment.theirs + start, length)
            if one != two:
                place = start + next(
                    (i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), 0
                )
                name = segment.names[bisect_right(segment.starts, place) - 1]
                raise CheckFailedError(f"{shard}: tensor {name!r} is not that of the source")
            on_bytes(length)


def _segments(header: Header, other: Header) -> Iterator[_Segment]:
    """Join tensors that follow each other in both files into long pieces."""
    segment: _Segment | None = None
    for name in sorted(header.tensors, key=lambda n: header.tensors[n].data_offsets):
        (ours, end), (theirs, _) = header.byte_range(name), other.byte_range(name)
        if segment and (segment.ours + segment.length, segment.theirs + segment.length) == (
            ours,
            theirs,
        ):
            segment.names.append(name)
            segment.starts.append(segment.length)
            segment = segment._replace(length=segment.length + end - ours)
            continue
        if segment:
            yield segment
        segment = _Segment(ours, theirs, end - ours, [name], [0])
    if segment:
        yield segment


def _compare_file(
    ours: Repository, theirs: Repository, name: str, on_bytes: Callable[[int], None]
) -> None:
    one, two = ours.files[name], theirs.files[name]
    if one.size_bytes != two.size_bytes:
        raise CheckFailedError(f"{name} has {one.size_bytes} bytes, the source {two.size_bytes}")
    for start in range(0, one.size_bytes, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, one.size_bytes - start)
        if ours.read(name, start, length) != theirs.read(name, start, length):
            raise CheckFailedError(f"{name} is not that of the source")
        on_bytes(length)
