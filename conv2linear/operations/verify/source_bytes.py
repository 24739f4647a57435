"""Compare the bytes of a shard or of another file with those of the source.

As few bytes as possible are read: none of two hard links of one file, none where the Hub lists the
same hash for both, and of a source on the Hub none where it lists a hash that settles the question.
For a file on the Hub the listed hash counts, not what a cache holds of it. What has to be read on
both sides is compared as it is: two hashes would say no more, and take several times as long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.header import LENGTH_BYTES, Header
from conv2linear.errors import CheckFailedError
from conv2linear.files.hash import update_hash
from conv2linear.files.pieces import count_same, find_difference
from conv2linear.hub.remote import id_kind_of, read_content_id
from conv2linear.operations.verify.subject import Options
from conv2linear.parallel import map_parallel
from conv2linear.sources.base import FileInfo, Repository

_PART_BYTES = 64 << 20  # of one file, for one thread: all threads end at about the same time
_CHUNK_BYTES = 4 << 20  # of a file on the Hub, in one request

OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class Comparison:
    """Something to compare, for which `size_bytes` of the checkpoint are read.

    `run` is given what counts them, and raises `CheckFailedError` where they are not the source's.
    """

    size_bytes: int
    run: Callable[[OnBytes], None]


def compare_shard(checkpoint: Checkpoint, source: Checkpoint, shard: str) -> Iterator[Comparison]:
    """Yield what shows that the tensors of a shard have the source's bytes, wherever they lie.

    Both headers name the same tensors, with the same sizes.
    """
    ours, theirs = checkpoint.files[shard], source.files[shard]
    header, other = checkpoint.headers[shard], source.headers[shard]
    if _has_same_id(ours, theirs):
        return
    path = _local_path(ours)
    if path is not None and theirs.sha256 and _have_same_offsets(header, other):
        yield _hash_under_header(ours, path, header, source=other, sha256=theirs.sha256)
    elif not _is_one_file(ours, theirs):

        def describe(place: int) -> str:
            return f"{shard}: tensor {_tensor_at(header, place)!r}"

        for span in _adjacent_tensors(header, other):
            yield from _compare_span(
                checkpoint.repository, source.repository, shard, span, describe=describe
            )


def compare_file(ours: Repository, theirs: Repository, name: str) -> Iterator[Comparison]:
    """Yield what shows that a file has the source's bytes.

    Raises `CheckFailedError` where their sizes differ.
    """
    one, two = ours.files[name], theirs.files[name]
    if one.size_bytes != two.size_bytes:
        raise CheckFailedError(f"{name} has {one.size_bytes} bytes, the source {two.size_bytes}")
    if _has_same_id(one, two):
        return
    path = _local_path(one)
    if path is not None and two.content_id is not None:
        yield _compare_content_id(one, path, two.content_id)
        return
    whole = _Span(0, 0, one.size_bytes)
    yield from _compare_span(ours, theirs, name, whole, describe=lambda _: name)


def run_comparisons(options: Options, comparisons: Sequence[Comparison]) -> None:
    """Compare on several threads; of several differences it is always the first that is raised."""
    options.progress.step(
        "compare with the source", sum(comparison.size_bytes for comparison in comparisons)
    )
    map_parallel(
        lambda comparison, on_bytes: comparison.run(on_bytes),
        comparisons,
        workers=options.workers,
        on_bytes=options.progress.advance,
        finish_earlier=True,
    )


class _Span(NamedTuple):
    """The same bytes in two files: where they begin in each, and how many they are."""

    ours: int
    theirs: int
    length: int


def _hash_under_header(
    ours: FileInfo, path: Path, header: Header, *, source: Header, sha256: str
) -> Comparison:
    """Hash the source's own header in front of our data, which must give the source's hash."""

    def run(on_bytes: OnBytes) -> None:
        digest = hashlib.sha256(len(source.raw).to_bytes(LENGTH_BYTES, "little") + source.raw)
        update_hash(digest, path, start=header.data_start, on_bytes=on_bytes)
        if digest.hexdigest() != sha256:
            raise CheckFailedError(f"{ours.name}: the tensors' bytes are not those of the source")

    return Comparison(ours.size_bytes - header.data_start, run)


def _compare_content_id(ours: FileInfo, path: Path, content_id: str) -> Comparison:
    def run(on_bytes: OnBytes) -> None:
        found = read_content_id(path, id_kind=id_kind_of(content_id), on_bytes=on_bytes)
        if found != content_id:
            raise CheckFailedError(f"{ours.name} is not that of the source")

    return Comparison(ours.size_bytes, run)


def _compare_span(
    ours: Repository,
    theirs: Repository,
    name: str,
    span: _Span,
    *,
    describe: Callable[[int], str],
) -> Iterator[Comparison]:
    """Compare a span in parts; `describe` says what is at a place of our file that differs."""

    def run(part: _Span, on_bytes: OnBytes) -> None:
        same = _count_same(ours, theirs, name, part, on_bytes)
        if same is not None:
            raise CheckFailedError(f"{describe(part.ours + same)} is not that of the source")

    for part in _split(span):
        yield Comparison(part.length, partial(run, part))


def _has_same_id(one: FileInfo, two: FileInfo) -> bool:
    return one.content_id is not None and one.content_id == two.content_id


def _local_path(info: FileInfo) -> Path | None:
    """Return where a file of a folder is; what a cache of the Hub holds does not count."""
    return info.path if info.content_id is None else None


def _is_one_file(one: FileInfo, two: FileInfo) -> bool:
    """Tell whether two folders have hard links of one file."""
    ours, theirs = _local_path(one), _local_path(two)
    return ours is not None and theirs is not None and ours.samefile(theirs)


def _have_same_offsets(one: Header, two: Header) -> bool:
    return all(
        info.data_offsets == two.tensors[name].data_offsets for name, info in one.tensors.items()
    )


def _adjacent_tensors(header: Header, other: Header) -> Iterator[_Span]:
    """Join the tensors that follow each other in both files, so that long parts are read.

    There are no gaps between the tensors of a file: tensors that are neighbours here are
    neighbours in the other file too if both have moved by the same distance.
    """
    ranges = [(header.byte_range(name), other.byte_range(name)[0]) for name in header.tensors]
    for distance, group in groupby(sorted(ranges), key=lambda each: each[1] - each[0][0]):
        joined = [ours for ours, _ in group]
        start, end = joined[0][0], joined[-1][1]
        yield _Span(start, start + distance, end - start)


def _split(span: _Span) -> Iterator[_Span]:
    for done in range(0, span.length, _PART_BYTES):
        length = min(_PART_BYTES, span.length - done)
        yield _Span(span.ours + done, span.theirs + done, length)


def _tensor_at(header: Header, place: int) -> str:
    """Return the name of the tensor that has the byte at this place of the file."""
    ranges = ((name, header.byte_range(name)) for name in header.tensors)
    return next(name for name, (start, end) in ranges if start <= place < end)


def _count_same(
    ours: Repository, theirs: Repository, name: str, span: _Span, on_bytes: OnBytes
) -> int | None:
    """Return how many bytes of a span are the same from its beginning on, None where all are."""
    one, two = (each.local_path(name, on_bytes=lambda _: on_bytes(0)) for each in (ours, theirs))
    if one is not None and two is not None:
        starts = (span.ours, span.theirs)
        return find_difference(one, two, starts=starts, length=span.length, on_bytes=on_bytes)
    for same in range(0, span.length, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, span.length - same)
        pieces = (
            ours.read(name, span.ours + same, length),
            theirs.read(name, span.theirs + same, length),
        )
        if pieces[0] != pieces[1] or len(pieces[0]) != length:
            return same + count_same(*pieces)
        on_bytes(length)
    return None
