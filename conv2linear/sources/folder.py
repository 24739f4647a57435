"""A folder of this machine as a source of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from conv2linear.errors import BadCheckpointError, SourceNotFoundError
from conv2linear.files.clone import clone_file, open_regular
from conv2linear.files.disk_errors import read_errors
from conv2linear.sources.base import OMITTED_FOLDERS, FileInfo, Origin, file_fingerprint


class Folder:
    """A checkpoint in a folder of this machine. Links to files are followed."""

    def __init__(self, path: Path, *, label: str | None = None, origin: Origin | None = None):
        self.path = path
        self.label = label or str(path)
        self.origin = origin
        if not path.is_dir():
            raise SourceNotFoundError(f"{self.label}: not a folder")
        with read_errors(path):
            infos = sorted(_list_files(path), key=lambda info: info.name)
        self.files: Mapping[str, FileInfo] = {info.name: info for info in infos}

    @property
    def warnings(self) -> Sequence[str]:
        """Nothing: a folder is what it is."""
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


def _list_files(root: Path) -> Iterable[FileInfo]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in OMITTED_FOLDERS]
        for name in subfolders + names:
            path = Path(folder, name)
            if name in subfolders and not path.is_symlink():
                continue
            yield _file_info(path, path.relative_to(root).as_posix())


def _file_info(path: Path, name: str) -> FileInfo:
    if not name.isprintable() or not path.is_file():
        what = "a broken link" if path.is_symlink() and not path.exists() else "not a regular file"
        raise BadCheckpointError(
            f"{ascii(name) if not name.isprintable() else name}: {what}",
            hint="a checkpoint holds plain files only: remove it, or put the file in its place",
        )
    status = path.stat()
    return FileInfo(name, status.st_size, file_fingerprint(path), path=path)
