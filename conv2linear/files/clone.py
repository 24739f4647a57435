"""Copy one file as cheaply as the file system can: share blocks, copy in the kernel, or plainly."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from conv2linear.errors import BadCheckpointError
from conv2linear.files.disk_errors import read_errors
from conv2linear.files.limits import NOT_ALLOWED, is_unsupported
from conv2linear.files.sync import EarlyWriteback, sync_descriptor

_CHUNK_BYTES = 16 << 20  # small enough to show progress and to stop soon
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's is
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
        set_mode(writer, 0o777 & status.st_mode | stat.S_IRUSR | stat.S_IWUSR)
        sync_descriptor(writer.fileno())


def set_mode(file: FileIO, mode: int) -> None:
    """Set the permissions of an open file, where its file system has any."""
    try:
        os.fchmod(file.fileno(), mode)
    except OSError as error:
        if error.errno not in NOT_ALLOWED and not is_unsupported(error):
            raise


def data_bytes(path: Path) -> int:
    """Return how many bytes of a file are data: all that are not in a hole."""
    with open_regular(path) as file, read_errors(path):
        return sum(end - start for start, end in _data_extents(file, 0))


def can_share_blocks(source: Path, folder: Path) -> bool:
    """Tell whether a copy of `source` in `folder` would take no disk space of its own."""
    with open_regular(source) as reader, tempfile.TemporaryFile(dir=folder, buffering=0) as writer:
        return share_blocks(reader, writer)


def share_blocks(reader: FileIO, writer: FileIO) -> bool:
    """Let `writer` share all blocks of `reader`; False where the file system does not."""
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:
        return False  # for whatever reason: where it matters, the copy meets it too
    return True


def copy_rest(reader: FileIO, writer: FileIO, *, on_bytes: Callable[[int], None]) -> None:
    """Copy all that follows in `reader` to the end of `writer`, in the kernel where it can.

    Holes stay holes. Raises `SourceUnreadableError` where reading fails, and `OSError` where
    writing does.
    """
    position, distance = reader.tell(), writer.tell() - reader.tell()
    size = os.fstat(reader.fileno()).st_size
    writeback = EarlyWriteback(writer)

    def count(count_bytes: int) -> None:
        writeback.advance(count_bytes)
        on_bytes(count_bytes)

    for begin, end in _data_extents(reader, position):
        on_bytes(begin - position)
        reader.seek(begin)
        writer.seek(begin + distance)
        position = begin + _copy_extent(reader, writer, end - begin, on_bytes=count)
        if position < end:
            return  # it has become shorter meanwhile, and so is the copy
    if position < size:  # it ends in a hole
        writer.truncate(size + distance)
        on_bytes(size - position)
    elif not size:  # but there may be content, as in files of /proc
        _copy_extent(reader, writer, _CHUNK_BYTES, on_bytes=count)


def _data_extents(file: FileIO, start: int) -> Iterator[tuple[int, int]]:
    """Yield where data begins and ends behind `start`, in a file that may have holes.

    Only a file that takes less space than its size is asked for them.
    """
    status = os.fstat(file.fileno())
    size, descriptor = status.st_size, file.fileno()
    seeks = hasattr(os, "SEEK_DATA") and status.st_blocks * _BLOCK_BYTES < size
    position = start
    while seeks and position < size:
        try:
            begin = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole follows
            break  # it cannot be asked: all the rest counts as data
        yield begin, end
        position = end
    if position < size:
        yield position, size


def _copy_extent(
    reader: FileIO, writer: FileIO, length: int, *, on_bytes: Callable[[int], None]
) -> int:
    """Copy `length` bytes from where `reader` stands to where `writer` does; return how many.

    An error in the kernel does not tell which of the two files has it, and some file systems
    copy nothing without one: the plain copy goes on from there, and meets it on the one side or
    the other.
    """
    copied = _copy_in_kernel(reader, writer, length, on_bytes=on_bytes)
    while copied < length and (chunk := _read_chunk(reader, length - copied)):
        view = memoryview(chunk)
        while view:
            view = view[writer.write(view) :]
        copied += len(chunk)
        on_bytes(len(chunk))
    return copied


def _copy_in_kernel(
    reader: FileIO, writer: FileIO, length: int, *, on_bytes: Callable[[int], None]
) -> int:
    copy_range = getattr(os, "copy_file_range", None)  # Linux only
    copied = 0
    # Both files stand where the last copied range ends, also after an error.
    with contextlib.suppress(OSError):
        while copy_range is not None and copied < length:
            count = copy_range(reader.fileno(), writer.fileno(), min(length - copied, _CHUNK_BYTES))
            if not count:
                break
            copied += count
            on_bytes(count)
    return copied


def _read_chunk(reader: FileIO, length: int) -> bytes:
    with read_errors(reader.name):
        return reader.read(min(length, _CHUNK_BYTES))
