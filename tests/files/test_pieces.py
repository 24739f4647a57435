"""Files are read piece by piece: all of what was asked for, and no more memory for a larger one."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from conv2linear.errors import SourceUnreadableError
from conv2linear.files.hash import hash_file
from conv2linear.files.pieces import find_difference, read_pieces

MEGABYTE = 1 << 20
CONTENT = random.Random(0).randbytes(2 * MEGABYTE + 5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    ("start", "length"),
    [
        (0, None),
        (7, None),
        (0, 0),
        (3, MEGABYTE),
        (MEGABYTE + 1, 9),
        (2 * MEGABYTE, 100),  # more than there is
        (len(CONTENT), None),
        (len(CONTENT) + 1, 4),
    ],
)
def test_what_was_asked_for_is_read_and_counted(start: int, length: int | None, file: Path) -> None:
    counted: list[int] = []
    expected = CONTENT[start:] if length is None else CONTENT[start : start + length]
    pieces = read_pieces(file, start=start, length=length, on_bytes=counted.append)
    assert b"".join(map(bytes, pieces)) == expected
    assert sum(counted) == len(expected)
    found = hash_file(file, start=start, length=length)
    assert found == hashlib.sha256(expected).hexdigest()


def test_every_full_piece_is_the_same_buffer(file: Path) -> None:
    assert len({id(piece) for piece in read_pieces(file, length=MEGABYTE)}) == 1


def test_counting_that_raises_ends_the_reading(file: Path) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_file(file, on_bytes=stop)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadableError, match="gone: cannot be read"):
        list(read_pieces(tmp_path / "gone"))


@pytest.mark.parametrize("place", [0, MEGABYTE - 1, MEGABYTE, len(CONTENT) - 1, None])
@pytest.mark.parametrize("moved", [0, 3])
def test_the_first_byte_that_differs_is_found_wherever_it_lies(
    place: int | None, moved: int, file: Path, tmp_path: Path
) -> None:
    other = bytearray(CONTENT)
    if place is not None:
        other[place] ^= 1
    two = tmp_path / "two"
    two.write_bytes(os.urandom(moved) + other + b"behind")
    counted: list[int] = []
    found = find_difference(
        file, two, starts=(0, moved), length=len(CONTENT), on_bytes=counted.append
    )
    assert found == place
    if place is None:
        assert sum(counted) == len(CONTENT)


def test_where_a_file_ends_is_a_difference(file: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    two.write_bytes(CONTENT[:MEGABYTE])
    for one, other in ((file, two), (two, file), (two, two)):
        length = len(CONTENT)
        found = find_difference(one, other, starts=(0, 0), length=length, on_bytes=lambda _: None)
        assert found == MEGABYTE
