"""Decide whether OUT may be written; nothing is touched."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.errors import OutputError, SourceNotFoundError
from conv2linear.files.disk_errors import write_errors
from conv2linear.parallel import default_workers
from conv2linear.paths import StrPath, parse_path


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
    """Return the path of OUT. Raises `OutputError` where no folder can have such a name."""
    return parse_path(out, what="OUT", error=OutputError)


def refuse_output(out: Path, *, force: bool, source: StrPath | None = None) -> None:
    """Raise `OutputError` where OUT may not be written.

    `source` is what OUT must lie apart from, where that is on this machine. Raises
    `SourceNotFoundError` where no source can have such a name.
    """
    with write_errors(out):
        if (folder := _local_path(source)) is not None:
            _refuse_overlap(out, folder.resolve())
        if not out.parent.is_dir():
            raise OutputError(f"{out.parent} is not a folder", hint=f"mkdir -p {out.parent}")
        if os.path.lexists(out):
            _refuse_existing(out, force=force)


def _refuse_existing(out: Path, *, force: bool) -> None:
    if not force:
        raise OutputError(f"{out} exists", hint="choose another name, or replace it with --force")
    is_folder = out.is_dir() and not out.is_symlink()
    if not is_folder or (any(out.iterdir()) and not (out / CONFIG_NAME).is_file()):
        raise OutputError(
            f"{out} exists and is not a checkpoint: --force does not replace it",
            hint="choose another name, or remove it yourself",
        )


def _refuse_overlap(out: Path, source: Path) -> None:
    target = out.resolve()
    if target == source:
        raise OutputError(f"{out} is the source itself", hint="choose another name for the output")
    if source in target.parents:
        raise OutputError(f"{out} is inside the source", hint="choose a place outside of it")
    if target in source.parents:
        raise OutputError(f"{out} contains the source", hint="choose another name for the output")


def _local_path(source: StrPath | None) -> Path | None:
    """Return the path of a source on this machine, None for one on the Hub."""
    if source is None:
        return None
    path = parse_path(source, what="source", error=SourceNotFoundError)
    return path if path.exists() else None
