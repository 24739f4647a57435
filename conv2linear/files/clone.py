"""Copy one file as cheaply as the file system can: share blocks, copy in the kernel, or plainly."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from conv2linear.errors import BadCheckpointError

_CHUNK_BYTES = 16 << 20  # small enough to show progress and to stop soon
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_CANNOT_SHARE = (
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EPERM,
)


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading; a named pipe in its place is an error, not a wait."""
    file = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BadCheckpointError(f"{path.name}: not a regular file")
    return file


def clone_file(source: Path, target: Path, *, on_bytes: Callable[[int], None]) -> None:
    """Write a copy of `source` to the new file `target` and see it onto the disk.

    Blocks are shared where the file system can (XFS, btrfs), and copied elsewhere. `on_bytes` is
    told each count of bytes done; what it raises ends the copy.
    """
    with open_regular(source) as reader, FileIO(target, "x") as writer:
        size = os.fstat(reader.fileno()).st_size
        if share_blocks(reader, writer):
            on_bytes(size)
        else:
            copy_rest(reader, writer, on_bytes=on_bytes)
        os.fchmod(writer.fileno(), 0o777 & os.fstat(reader.fileno()).st_mode | 0o200)
        os.fsync(writer.fileno())


def can_share_blocks(source: Path, folder: Path) -> bool:
    """Tell whether a copy of `source` in `folder` would take no disk space of its own."""
    with open_regular(source) as reader, tempfile.TemporaryFile(dir=folder, buffering=0) as writer:
        return share_blocks(reader, writer)


def share_blocks(reader: FileIO, writer: FileIO) -> bool:
    """Let `writer` share all blocks of `reader`; False where the file system cannot."""
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError as error:
        if error.errno in _CANNOT_SHARE:
            return False
        raise
    return True


def copy_rest(reader: FileIO, writer: FileIO, *, on_bytes: Callable[[int], None]) -> None:
    """Copy all that follows in `reader` to where `writer` stands, in the kernel where it can."""
    copy_range = getattr(os, "copy_file_range", None)  # Linux only
    while copy_range:
        try:
            count = copy_range(reader.fileno(), writer.fileno(), _CHUNK_BYTES)
        except OSError as error:
            if error.errno not in _CANNOT_SHARE:
                raise
            break  # this pair of file systems does not do it; nothing was lost
        if not count:
            return
        on_bytes(count)
    while chunk := reader.read(_CHUNK_BYTES):
        view = memoryview(chunk)
        while view:
            view = view[writer.write(view) :]
        on_bytes(len(chunk))
