"""The disk begins with a large file while it is being written, where the system lets it."""

from __future__ import annotations

import ctypes
import os
import sys
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conv2linear.files.clone import clone_file
from conv2linear.files.sync import EarlyWriteback

SIZE_BYTES = (40 << 20) + 5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of 40 MiB."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(1 << 20) * 40 + b"extra")
    return path


@pytest.fixture
def no_shared_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy also where the file system could share blocks."""
    monkeypatch.setattr("conv2linear.files.clone.share_blocks", lambda reader, writer: False)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return what `sync_file_range` is called with, each time with what it returned."""
    begin = ctypes.CDLL(None).sync_file_range
    begin.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    made: list[tuple[int, ...]] = []

    class Recorded:
        argtypes: Any = None

        def __call__(self, descriptor: int, start: int, length: int, flags: int) -> None:
            size = os.fstat(descriptor).st_size
            made.append((size, start, length, flags, begin(descriptor, start, length, flags)))

    library = SimpleNamespace(sync_file_range=Recorded())
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_the_disk_begins_before_a_copy_is_complete(
    source: Path, tmp_path: Path, calls: list[tuple[int, ...]], no_shared_blocks: None
) -> None:
    clone_file(source, tmp_path / "target", on_bytes=lambda count: None)
    # The whole file so far, without waiting: SYNC_FILE_RANGE_WRITE is 2 and alone.
    assert calls == [(16 << 20, 0, 0, 2, 0), (32 << 20, 0, 0, 2, 0)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_small_pieces_are_begun_together(tmp_path: Path, calls: list[tuple[int, ...]]) -> None:
    with FileIO(tmp_path / "file", "x") as file:
        writeback = EarlyWriteback(file)
        for _ in range(33):
            file.write(bytes(1 << 20))
            writeback.advance(1 << 20)
    assert [call[0] for call in calls] == [16 << 20, 32 << 20]


def test_a_system_without_it_copies_all_the_same(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_shared_blocks: None
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    told: list[int] = []
    clone_file(source, tmp_path / "target", on_bytes=told.append)
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert sum(told) == SIZE_BYTES
