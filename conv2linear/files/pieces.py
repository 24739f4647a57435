"""Read files piece by piece, each into one buffer: memory and cache stay the same for any size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import FileIO
from itertools import zip_longest
from pathlib import Path

from conv2linear.files.clone import open_regular
from conv2linear.files.disk_errors import as_read_error

_PIECE_BYTES = 256 << 10  # two of them stay in the cache that a core has of its own
_TELL_EVERY_S = 0.05  # to tell of each piece would take about as long as to read it


def read_pieces(
    path: Path,
    *,
    start: int = 0,
    length: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[bytearray]:
    """Yield `length` bytes of a file from `start`, or all that follow; fewer only at its end.

    A piece holds these bytes until the next is asked for. `on_bytes` is told now and then how many
    more were taken; what it raises ends the reading. Raises `SourceUnreadableError` and
    `BadCheckpointError`, as `open_regular` does.
    """
    buffer, left = bytearray(_PIECE_BYTES), length
    whole = memoryview(buffer)
    untold_bytes, told_s = 0, time.monotonic()
    with open_regular(path) as file:
        file.seek(start)
        while left is None or left > 0:
            view = whole if left is None or left >= _PIECE_BYTES else whole[:left]
            try:
                count = _fill(view, file)
            except OSError as error:  # no context manager: it takes a while, for each piece
                raise as_read_error(error, path) from error
            if count:
                yield buffer if count == _PIECE_BYTES else buffer[:count]
            left = None if left is None else left - count
            untold_bytes += count
            is_over = count < len(view) or left == 0
            if on_bytes and (is_over or time.monotonic() - told_s >= _TELL_EVERY_S):
                on_bytes(untold_bytes)
                untold_bytes, told_s = 0, time.monotonic()
            if is_over:
                return


def find_difference(
    one: Path,
    two: Path,
    *,
    starts: tuple[int, int],
    length: int,
    on_bytes: Callable[[int], None],
) -> int | None:
    """Return how many of `length` bytes two files have in common, None where that is all of them.

    `starts` says where they begin in each. It takes a tenth longer than to read both, where to hash
    both would take several times as long. Raises as `read_pieces` does.
    """
    same = 0
    pieces = zip_longest(
        read_pieces(one, start=starts[0], length=length, on_bytes=on_bytes),
        read_pieces(two, start=starts[1], length=length),
        fillvalue=b"",
    )
    for ours, theirs in pieces:
        if ours != theirs:
            return same + count_same(ours, theirs)
        same += len(ours)
    return None if same == length else same


def count_same(one: bytes | bytearray, two: bytes | bytearray) -> int:
    """Return how many bytes two pieces have in common from their beginning on."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(two)))


def _fill(buffer: memoryview, file: FileIO) -> int:
    """Read until a buffer is full or the file ends; return how many bytes that were."""
    filled = file.readinto(buffer)
    while filled < len(buffer) and (count := file.readinto(buffer[filled:])):
        filled += count
    return filled
