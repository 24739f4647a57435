"""Decide whether OUT may be written, by its place; nothing is touched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from conv2linear.errors import OutputError
from conv2linear.files.disk_errors import read_errors, write_errors
from conv2linear.files.status import is_folder, read_status
from conv2linear.parallel import default_workers
from conv2linear.paths import StrPath, missing_folder_hint, parse_path
from conv2linear.sources.open import find_local


@dataclass(frozen=True)
class WriteOptions:
    """How a caller wants OUT to be written.

    `hardlink` links unchanged files instead of copying them, `force` replaces an OUT that is a
    checkpoint, `workers` is the number of threads that copy or download.
    """

    hardlink: bool = False
    force: bool = False
    workers: int = field(default_factory=default_workers)


def parse_out(out: StrPath) -> Path:
    """Return the path of OUT, which ends in a name.

    Raises `OutputError` where no folder can have such a name.
    """
    path = parse_path(out, what="OUT", error=OutputError)
    if path.name in ("", ".."):  # the folder has another name, which the staging folder needs
        with write_errors(path):
            path = path.resolve()
    if not path.name:
        raise OutputError(f"OUT is {path}", hint="name a folder in it")
    return path


def refuse_output(out: Path, *, force: bool, source: StrPath | None = None) -> None:
    """Raise `OutputError` where OUT may not be written.

    `source` is what OUT must not overlap with, if that is on this machine. Raises
    `SourceNotFoundError` where no source can have such a name.
    """
    with write_errors(out):
        if source is not None and (folder := find_local(source)) is not None:
            _refuse_overlap(out, folder)
        if not is_folder(out.parent):
            folder, hint = out.parent, missing_folder_hint(out.parent)
            if read_status(folder):
                raise OutputError(f"the folder for OUT, {folder}, is not a folder", hint=hint)
            raise OutputError(f"the folder for OUT, {folder}, is not there", hint=hint)
        if os.path.lexists(out):
            _refuse_existing(out, force=force)


def refuse_linked_files(out: Path, paths: Iterable[Path]) -> None:
    """Raise `OutputError` where OUT overlaps with a folder that holds files of the source.

    Links of a source may lead to files elsewhere, as they do in the Hub's cache. OUT may lie in a
    folder that contains both the links and the files.
    """
    homes: dict[Path, Path] = {}
    for path in paths:
        with read_errors(path):
            folder = path.resolve().parent if path.is_symlink() else path.parent
            homes.setdefault(folder, path.parent)
    for folder, home in homes.items():
        with write_errors(out):
            relation = _relation(out, folder)
            is_common = relation == "is inside" and folder in home.resolve().parents
        if relation is not None and not is_common:
            raise OutputError(
                f"{out} {relation} {folder}, where files of the source lie",
                hint="choose another name for the output",
            )


def _refuse_existing(out: Path, *, force: bool) -> None:
    if not force:
        raise OutputError(
            f"{out} exists already",
            hint="choose another name; if it is a checkpoint, --force replaces it",
        )
    if not out.is_dir() or out.is_symlink():
        raise OutputError(
            f"{out} is not a checkpoint: --force does not replace it",
            hint="choose another name, or remove it yourself",
        )


def _refuse_overlap(out: Path, source: Path) -> None:
    relation = _relation(out, source.resolve())
    if relation == "is":
        raise OutputError(f"{out} is the source itself", hint="choose another name for the output")
    if relation == "is inside":
        raise OutputError(f"{out} is inside the source", hint="choose a place outside of it")
    if relation == "contains":
        raise OutputError(f"{out} contains the source", hint="choose another name for the output")


def _relation(out: Path, folder: Path) -> str | None:
    """Say how OUT overlaps with a folder, None where it does not.

    Both are compared as the file system knows them, under whatever names they are mounted.
    """
    identity = _identity(folder)
    if identity is not None and identity == _identity(out):
        return "is"
    if identity in _ancestors(out.resolve()):
        return "is inside"
    if os.path.lexists(out) and _identity(out) in _ancestors(folder):
        return "contains"
    return None


def _ancestors(path: Path) -> Iterator[tuple[int, int] | None]:
    return (_identity(parent) for parent in path.parents)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
