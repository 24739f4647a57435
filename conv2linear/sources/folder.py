"""A folder of this machine as a source of files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from conv2linear.errors import BadCheckpointError, SourceNotFoundError
from conv2linear.files.clone import clone_file, open_regular
from conv2linear.files.disk_errors import read_errors
from conv2linear.files.status import is_folder, read_status
from conv2linear.sources.base import (
    FileInfo,
    Origin,
    find_name_problem,
    is_omitted,
    named_in_errors,
    status_fingerprint,
)


class Folder:
    """A checkpoint in a folder of this machine. Links to files are followed.

    Raises `SourceUnreadableError` where a part of it cannot be read, and `BadCheckpointError` for
    what is not a regular file, or has a name that cannot be recorded.
    """

    def __init__(self, path: Path, *, label: str | None = None, origin: Origin | None = None):
        self.path = path
        self.label = label or str(path)
        self.origin = origin
        with read_errors(path):
            is_there = is_folder(path)
        if not is_there:
            raise SourceNotFoundError(
                f"{self.label}: not a folder", hint=f"did you mean the folder {path.parent}?"
            )
        with read_errors(path):
            found = sorted(_walk(path, path))
        omitted = {name for name in found if name.endswith("/") or is_omitted(name)}
        self.omitted = tuple(sorted(omitted))
        with named_in_errors(self.label):
            self.files: Mapping[str, FileInfo] = {
                name: _file_info(path / name, name) for name in found if name not in omitted
            }

    @property
    def warnings(self) -> Sequence[str]:
        """None: what is in a folder is what was asked for."""
        return ()

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, fewer only at its end."""
        path = self.path / name
        with open_regular(path) as file, read_errors(path):
            return os.pread(file.fileno(), length, start)

    def local_path(self, name: str, *, on_bytes: Callable[[int], None]) -> Path | None:
        """Return where a file lies."""
        return self.path / name

    def fetch(
        self, name: str, target: Path, *, scratch: Path, on_bytes: Callable[[int], None]
    ) -> None:
        """Write a copy of a file to the new file `target` and sync it."""
        clone_file(self.path / name, target, on_bytes=on_bytes)


def _walk(root: Path, folder: Path) -> Iterator[str]:
    """Yield the name of all below `root` but folders, and of folders without what belongs to it.

    Those are folders that are omitted, and empty ones; they end with a slash.
    """
    with os.scandir(folder) as entries:
        found = list(entries)
    if not found and folder != root:
        yield f"{folder.relative_to(root).as_posix()}/"
    for entry in found:
        path = Path(entry)
        name = path.relative_to(root).as_posix()
        if not entry.is_dir(follow_symlinks=False):
            yield name
        elif is_omitted(name):
            yield f"{name}/"
        else:
            yield from _walk(root, path)


def _file_info(path: Path, name: str) -> FileInfo:
    if problem := find_name_problem(name):
        raise BadCheckpointError(
            f"{name!a}: not a regular file name: {problem}", hint="give the file another name"
        )
    with read_errors(path):
        status = read_status(path)
        is_broken = status is None and path.is_symlink()
    if status is None or not stat.S_ISREG(status.st_mode):
        raise BadCheckpointError(
            f"{name}: {'a broken link' if is_broken else 'not a regular file'}",
            hint="a checkpoint holds plain files only: remove it, or put the file in its place",
        )
    return FileInfo(name, status.st_size, status_fingerprint(status), path=path)
