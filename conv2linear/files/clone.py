"""Copy one file as cheaply as the file system can: share blocks, copy in the kernel, or plainly."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from conv2linear.errors import BadCheckpointError
from conv2linear.files.disk_errors import read_errors

_CHUNK_BYTES = 16 << 20  # small enough to show progress and to stop soon
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading; a named pipe in its place is an error, not a wait.

    Raises `SourceUnreadableError` where it cannot be opened, `BadCheckpointError` where it is not
    a regular file.
    """
    with read_errors(path):
        file = FileIO(path, opener=lambda name, _: os.open(name, os.O_RDONLY | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BadCheckpointError(f"{path.name}: not a regular file")
    return file


def clone_file(source: Path, target: Path, *, on_bytes: Callable[[int], None]) -> None:
    """Write a copy of `source` to the new file `target`, and sync it.

    Blocks are shared where the file system can (XFS, btrfs), and copied elsewhere. `on_bytes` is
    told each number of bytes done; what it raises ends the copy. Raises `SourceUnreadableError`
    where the source cannot be read, and `OSError` where the target cannot be written.
    """
    with open_regular(source) as reader, FileIO(target, "x") as writer:
        status = os.fstat(reader.fileno())
        if share_blocks(reader, writer):
            on_bytes(status.st_size)
        else:
            copy_rest(reader, writer, on_bytes=on_bytes)
        os.fchmod(writer.fileno(), 0o777 & status.st_mode | 0o200)
        os.fsync(writer.fileno())


def can_share_blocks(source: Path, folder: Path) -> bool:
    """Tell whether a copy of `source` in `folder` would take no disk space of its own."""
    with open_regular(source) as reader, tempfile.TemporaryFile(dir=folder, buffering=0) as writer:
        return share_blocks(reader, writer)


def share_blocks(reader: FileIO, writer: FileIO) -> bool:
    """Let `writer` share all blocks of `reader`; False where the file system does not."""
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:
        return False  # whatever hinders it, copying shows whether it matters
    return True


def copy_rest(reader: FileIO, writer: FileIO, *, on_bytes: Callable[[int], None]) -> None:
    """Copy all that follows in `reader` to where `writer` stands, in the kernel where it can.

    An error in the kernel does not tell which of the two files has it: the plain copy goes on
    from there, and meets it on the one side or the other. Raises `SourceUnreadableError` where
    reading fails, and `OSError` where writing does.
    """
    if _copy_in_kernel(reader, writer, on_bytes=on_bytes):
        return
    while chunk := _read_chunk(reader):
        view = memoryview(chunk)
        while view:
            view = view[writer.write(view) :]
        on_bytes(len(chunk))


def _copy_in_kernel(reader: FileIO, writer: FileIO, *, on_bytes: Callable[[int], None]) -> bool:
    copy_range = getattr(os, "copy_file_range", None)  # Linux only
    if copy_range is None:
        return False
    while True:
        try:
            count = copy_range(reader.fileno(), writer.fileno(), _CHUNK_BYTES)
        except OSError:
            return False  # both files stand where the last copied range ends
        if not count:
            return True
        on_bytes(count)


def _read_chunk(reader: FileIO) -> bytes:
    with read_errors(reader.name):
        return reader.read(_CHUNK_BYTES)
