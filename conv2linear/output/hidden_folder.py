"""The hidden folder beside OUT in which it is built: its name, and whether a run may use it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from conv2linear.errors import OutputError
from conv2linear.files.lock import FolderLock
from conv2linear.output.private import refuse_foreign_folder

_LONGEST_NAME = 200  # bytes: a longer one has no room for what is put around it
FILES, PARTIAL, ASIDE, JOURNAL, NEW = "files", "partial", "files-old", "journal", "new"


def staging_root(out: Path) -> Path:
    """Return the hidden folder beside OUT."""
    name = out.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return out.parent / f".{name}.conv2linear"


def refuse_other_run(out: Path) -> None:
    """Raise `OutputError` where another run is writing OUT now; nothing is left locked."""
    try:
        descriptor = os.open(staging_root(out), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        FolderLock(descriptor).release()
    except BlockingIOError:
        raise other_run(out) from None
    finally:
        os.close(descriptor)


def other_run(out: Path) -> OutputError:
    """Return the error that says that another run writes OUT."""
    return OutputError(f"another run is writing {out}", hint="wait for it, or choose another name")


def refuse_foreign_staging(out: Path) -> None:
    """Raise `OutputError` where the hidden folder beside OUT is there, and not only our own.

    It may be another user's, or have in it what no run has put there.
    """
    root = staging_root(out)
    refuse_foreign_folder(root)
    names = {path.name for path in root.iterdir()} if root.is_dir() else set()
    if foreign := names - {FILES, PARTIAL, ASIDE, JOURNAL, NEW}:
        raise OutputError(
            f"{root} holds {min(foreign)}, which no run has put there, so nothing is written there",
            hint="move it elsewhere, or choose another name for OUT",
        )
