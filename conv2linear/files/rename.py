"""Move folders into place by one rename, and remove them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import sys
from pathlib import Path

from conv2linear.errors import OutputError
from conv2linear.files.limits import NOT_SUPPORTED

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h
# A container may forbid the call itself; where it is the folder that is forbidden, so is `rename`.
_NO_RENAMEAT2 = NOT_SUPPORTED | {errno.EPERM}


def remove_tree(path: Path) -> None:
    """Remove a folder or a file if it is there; what links lead to stays.

    A folder that may not be written is removed too, if its owner may change that.
    """
    if path.is_dir() and not path.is_symlink():
        _make_writable(path)
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
    raise OutputError(
        f"{out} exists by now",
        hint="it appeared while this run was at work: look at it, then run again",
    )


def exchange(new: Path, old: Path, *, aside: Path) -> None:
    """Swap two folders, atomically where the system can.

    What was at `old` is at `new` afterwards, or at `aside` where the system cannot swap. There, for
    one moment, nothing is at `old`: `finish_exchange` puts it back if the process ended just then.
    """
    if _rename_atomically(new, old, _RENAME_EXCHANGE):
        return
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise


def finish_exchange(new: Path, old: Path, *, aside: Path) -> None:
    """Finish an exchange that was cut short: put the folder back that lies at `aside`, if one does.

    Where the exchange was done it is removed. Raises `OutputError` where something else has taken
    its place meanwhile.
    """
    if aside.is_symlink() or not aside.is_dir():  # never what an exchange leaves
        remove_tree(aside)
    elif not os.path.lexists(old):
        aside.rename(old)
    elif not os.path.lexists(new):
        remove_tree(aside)
    else:
        raise OutputError(
            f"{aside} is what {old} was before an interrupted run, and {old} is another one now",
            hint=f"move {aside} to where you want it, or remove it",
        )


def _make_writable(folder: Path) -> None:
    """Let the owner read and write a folder and every one below, as far as that can be changed."""
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(folder.lstat().st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            folder.chmod(mode | stat.S_IRWXU)
    for subfolder in _subfolders(folder):
        _make_writable(subfolder)


def _subfolders(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _rename_atomically(new: Path, out: Path, flags: int) -> bool:
    """Call renameat2; return False where system or file system do not have it."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if sys.platform != "linux" or rename is None:
        return False
    if not rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(out), flags):
        return True
    number = ctypes.get_errno()
    if number in _NO_RENAMEAT2:
        return False
    raise OSError(number, os.strerror(number), str(out))
