"""A folder that only this user fills, and what may be in it: nothing of another user, no link."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Collection
from pathlib import Path

from conv2linear.errors import OutputError
from conv2linear.files.rename import remove_tree

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def open_private_folder(path: Path) -> int:
    """Make a folder that nobody else may enter, unless it is there; return its descriptor.

    Raises `OutputError` where another user could have put something in it, and `OSError`.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    refuse_foreign_folder(path)
    # A link in its place is not followed: what it leads to is not ours to sweep.
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def refuse_foreign_folder(path: Path) -> None:
    """Raise `OutputError` where a folder is not this user's alone, and is there."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    is_folder = stat.S_ISDIR(status.st_mode)
    if is_folder and (_is_own(status) or _is_like_a_new_one(path, status)):
        return
    raise OutputError(
        f"{path} is {'not only this user’s' if is_folder else 'not a folder'}, "
        "so nothing is written there",
        hint="remove it if it is left over, or choose another place for OUT",
    )


def fresh_folder(path: Path, *, parent: os.stat_result) -> None:
    """Make a folder, unless there is one already that has the owner of its `parent`."""
    if os.path.lexists(path):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == parent.st_uid:
            return
        remove_tree(path)
    path.mkdir()


def keep_files(folder: Path, names: Collection[str]) -> None:
    """Remove all below a folder but the files of these names, and the folders that they need.

    A link or a file that has a second name is removed whatever its name is.
    """
    _keep_files(folder, "", frozenset(names))


def is_plain(path: Path) -> bool:
    """Tell whether a path is a regular file that has no other name."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _keep_files(folder: Path, prefix: str, names: frozenset[str]) -> None:
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        name, path = prefix + entry.name, Path(entry)
        is_parent = any(each.startswith(f"{name}/") for each in names)
        if is_parent and entry.is_dir(follow_symlinks=False):
            _keep_files(path, f"{name}/", names)
        elif name not in names or not is_plain(path):
            remove_tree(path)


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _WRITABLE_BY_OTHERS


def _is_like_a_new_one(path: Path, status: os.stat_result) -> bool:
    """Tell whether a new file beside a folder would have the same owner, and be as open to others.

    Some file systems give every file the same owner and mode. What this user makes there looks like
    this folder, and is not safer.
    """
    with tempfile.TemporaryFile(dir=path.parent) as probe:  # it has no name, where that can be
        new = os.fstat(probe.fileno())
    is_open = bool(status.st_mode & ~new.st_mode & _WRITABLE_BY_OTHERS)
    return status.st_uid == new.st_uid and not is_open
