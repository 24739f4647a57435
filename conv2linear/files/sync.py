"""Bring files, and the entries of folders, to the disk."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import Any

from conv2linear.files.limits import is_unsupported

_WRITEBACK_BYTES = 16 << 20
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h


def sync_descriptor(descriptor: int) -> None:
    """Sync an open file or folder, where its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_unsupported(error):
            raise


def sync_file(path: Path) -> None:
    """Sync a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


class EarlyWriteback:
    """Lets the disk begin with what is written to a file while the rest is being written.

    By itself the system waits for a sync, so that first the disk has nothing to do and then the
    processor. This is Linux's `sync_file_range`; elsewhere all is left to the sync, which alone
    says whether it is on the disk.
    """

    def __init__(self, file: FileIO) -> None:
        import ctypes  # takes a while, which commands that only read need not wait

        self._file, self._waiting_bytes = file, 0
        self._begin: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)
        if self._begin is not None:
            self._begin.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

    def advance(self, count_bytes: int) -> None:
        """Count what has been written, and now and then begin with all that waits."""
        self._waiting_bytes += count_bytes
        if self._waiting_bytes >= _WRITEBACK_BYTES and self._begin is not None:
            self._begin(self._file.fileno(), 0, 0, _SYNC_FILE_RANGE_WRITE)  # to the end of the file
            self._waiting_bytes = 0
