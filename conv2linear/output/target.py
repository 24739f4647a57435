"""Decide whether OUT may be written; nothing is touched."""

from __future__ import annotations

import os
from pathlib import Path

from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.errors import OutputError, SourceNotFoundError
from conv2linear.paths import StrPath, parse_path


def check_output(out: Path, *, force: bool, source: Path | None) -> None:
    """Raise `OutputError` where OUT may not be written; nothing is touched."""
    if source is not None:
        _check_apart(out, source.resolve())
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder", hint=f"mkdir -p {out.parent}")
    if not os.path.lexists(out):
        return
    if not force:
        raise OutputError(f"{out} exists", hint="choose another name, or replace it with --force")
    is_folder = out.is_dir() and not out.is_symlink()
    if not is_folder or (any(out.iterdir()) and not (out / CONFIG_NAME).is_file()):
        raise OutputError(
            f"{out} exists and is no checkpoint: --force does not replace it",
            hint="choose another name, or remove it yourself",
        )


def parse_out(out: StrPath) -> Path:
    """Return the path of OUT. Raises `OutputError` where no folder can have such a name."""
    return parse_path(out, what="OUT", error=OutputError)


def local_path(source: StrPath) -> Path | None:
    """Return the path of a source on this machine, None for one on the Hub.

    Raises `SourceNotFoundError` where nothing can have such a name.
    """
    path = parse_path(source, what="source", error=SourceNotFoundError)
    return path if path.exists() else None


def _check_apart(out: Path, source: Path) -> None:
    target = out.resolve()
    if target == source:
        raise OutputError(f"{out} is the source itself", hint="choose another name for the output")
    if source in target.parents:
        raise OutputError(f"{out} is inside the source", hint="choose a place outside of it")
    if target in source.parents:
        raise OutputError(f"{out} contains the source", hint="choose another name for the output")
