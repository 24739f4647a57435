"""Compare the bytes of a shard or of another file with those of the source.

As few bytes as possible are read: none of two hard links of one file, none where the Hub lists the
same hash for both, and of a source on the Hub none where it lists a hash that settles the question.
For a file on the Hub the listed hash counts, not what a cache holds of it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import NamedTuple

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.header import LENGTH_BYTES, Header
from conv2linear.errors import CheckFailedError
from conv2linear.files.hash import update_hash
from conv2linear.hub.remote import id_kind_of, read_content_id
from conv2linear.sources.base import FileInfo, Repository

_CHUNK_BYTES = 1 << 20


def compare_shard(
    checkpoint: Checkpoint, source: Checkpoint, shard: str, *, on_bytes: Callable[[int], None]
) -> None:
    """Check that the tensors of a shard have the source's bytes, wherever they lie in the file.

    Both headers name the same tensors, with the same sizes. Raises `CheckFailedError`.
    """
    ours, theirs = checkpoint.files[shard], source.files[shard]
    header, other = checkpoint.headers[shard], source.headers[shard]
    if _has_same_id(ours, theirs):
        on_bytes(ours.size_bytes)
    elif _is_local(ours) and theirs.sha256 and ours.path and _have_same_offsets(header, other):
        # The source's own header in front of our data must give the source's hash.
        digest = hashlib.sha256(len(other.raw).to_bytes(LENGTH_BYTES, "little") + other.raw)
        update_hash(digest, ours.path, start=header.data_start, on_bytes=on_bytes)
        if digest.hexdigest() != theirs.sha256:
            raise CheckFailedError(f"{shard}: the tensors' bytes are not those of the source")
    elif _is_one_file(ours, theirs):
        on_bytes(ours.size_bytes)
    else:
        _compare_tensors(checkpoint, source, shard, on_bytes)


def compare_file(
    ours: Repository, theirs: Repository, name: str, *, on_bytes: Callable[[int], None]
) -> None:
    """Check that a file has the source's bytes. Raises `CheckFailedError`."""
    one, two = ours.files[name], theirs.files[name]
    if one.size_bytes != two.size_bytes:
        raise CheckFailedError(f"{name} has {one.size_bytes} bytes, the source {two.size_bytes}")
    whole = _Span(0, 0, one.size_bytes)
    if _has_same_id(one, two):
        on_bytes(one.size_bytes)
    elif _is_local(one) and one.path and two.content_id is not None:
        found = read_content_id(one.path, id_kind=id_kind_of(two.content_id))
        on_bytes(one.size_bytes)
        if found != two.content_id:
            raise CheckFailedError(f"{name} is not that of the source")
    elif _find_difference(ours, theirs, name, span=whole, on_bytes=on_bytes) is not None:
        raise CheckFailedError(f"{name} is not that of the source")


def _has_same_id(one: FileInfo, two: FileInfo) -> bool:
    return one.content_id is not None and one.content_id == two.content_id


def _is_local(info: FileInfo) -> bool:
    """Tell whether a file belongs to a folder, and not to a cache of the Hub."""
    return info.path is not None and info.content_id is None


def _is_one_file(one: FileInfo, two: FileInfo) -> bool:
    """Tell whether two folders have hard links of one file."""
    if one.path is None or two.path is None or not (_is_local(one) and _is_local(two)):
        return False
    return one.path.samefile(two.path)


class _Span(NamedTuple):
    """The same bytes in two files: where they begin in each, and where they end in ours."""

    ours: int
    theirs: int
    end: int


def _have_same_offsets(one: Header, two: Header) -> bool:
    return all(
        info.data_offsets == two.tensors[name].data_offsets for name, info in one.tensors.items()
    )


def _compare_tensors(
    checkpoint: Checkpoint, source: Checkpoint, shard: str, on_bytes: Callable[[int], None]
) -> None:
    ours, theirs = checkpoint.repository, source.repository
    for tensors in _adjacent_tensors(checkpoint.headers[shard], source.headers[shard]):
        spans = list(tensors.values())
        span = spans[0]._replace(end=spans[-1].end)
        place = _find_difference(ours, theirs, shard, span=span, on_bytes=on_bytes)
        if place is not None:
            number = bisect_right([each.ours for each in spans], place) - 1
            name = list(tensors)[number]
            raise CheckFailedError(f"{shard}: tensor {name!r} is not that of the source")


def _adjacent_tensors(header: Header, other: Header) -> Iterator[dict[str, _Span]]:
    """Group the tensors that follow each other in both files, so that long pieces are read.

    There are no gaps between the tensors of a file: tensors that are neighbours here are
    neighbours in the other file too if both have moved by the same distance.
    """
    spans: dict[str, _Span] = {}
    for name in sorted(header.tensors, key=lambda name: header.tensors[name].data_offsets):
        (start, end), (theirs, _) = header.byte_range(name), other.byte_range(name)
        spans[name] = _Span(start, theirs, end)
    for _, group in groupby(spans.items(), key=lambda item: item[1].theirs - item[1].ours):
        yield dict(group)


def _find_difference(
    ours: Repository,
    theirs: Repository,
    name: str,
    *,
    span: _Span,
    on_bytes: Callable[[int], None],
) -> int | None:
    """Return the first place in our file whose byte differs or is missing, None without one."""
    for start in range(span.ours, span.end, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, span.end - start)
        one = ours.read(name, start, length)
        two = theirs.read(name, span.theirs + start - span.ours, length)
        if one != two or len(one) != length:
            pairs = enumerate(zip(one, two, strict=False))
            return start + next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))
        on_bytes(length)
    return None
