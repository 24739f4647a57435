"""Move folders into place by one rename; sync and remove files and folders."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

from conv2linear.errors import OutputError

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h


def sync_file(path: Path) -> None:
    """Sync a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a folder or a file if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def rename_new(new: Path, out: Path) -> None:
    """Rename the folder `new` to `out`. Raises `OutputError` where that name is taken."""
    try:
        if _rename_atomically(new, out, _RENAME_NOREPLACE):
            return
        if not os.path.lexists(out):
            new.rename(out)
            return
    except FileExistsError:
        pass
    raise OutputError(f"{out} exists by now", hint="it appeared while this run was at work")


def exchange(new: Path, old: Path) -> None:
    """Swap two folders, atomically where the system can."""
    if _rename_atomically(new, old, _RENAME_EXCHANGE):
        return
    # Elsewhere there is one moment without `old`; it lies complete beside its place.
    aside = new.with_name(new.name + "-old")
    remove_tree(aside)
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise


def _rename_atomically(new: Path, out: Path, flags: int) -> bool:
    """Call renameat2; return False where system or file system do not have it."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if sys.platform != "linux" or rename is None:
        return False
    if not rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(out), flags):
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), str(out))
