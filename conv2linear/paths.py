"""Paths as callers give them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TypeAlias

from conv2linear.errors import Conv2LinearError

StrPath: TypeAlias = str | os.PathLike[str]

_LONGEST_SHOWN = 100  # characters of a name in a message


def parse_path(path: StrPath, *, what: str, error: type[Conv2LinearError]) -> Path:
    """Return a path that the operating system accepts; nothing has to exist there.

    `what` names the path in the message of the `error` that is raised where `path_text` raises it,
    for a name that is too long or holds a NUL, and for one that leads through what may not be read.
    """
    text = path_text(path, what=what, error=error)
    try:
        os.stat(text)  # noqa: PTH116 - Path.exists hides some of these errors
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as reason:
        shown = _shorten(text if text.isprintable() else ascii(text))
        why = reason.strerror if isinstance(reason, OSError) else reason
        raise error(f"{what} {shown}: {why}", hint="give another name") from reason
    return Path(text)


def path_text(path: StrPath, *, what: str, error: type[Conv2LinearError]) -> str:
    """Return a path as text; raise `error` for an empty one, and for what is not a path at all."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):  # a path-like object may stand for bytes
        raise error(
            f"{what} is {_shorten(ascii(text))}, expected text or a path", hint="name a folder"
        )
    if not text:
        raise error(f"{what} is an empty name", hint="name a folder")
    return text


def missing_folder_hint(folder: Path) -> str:
    """Say what to do about a folder that is not there, or is no folder."""
    blocking = next((each for each in (folder, *folder.parents) if each.exists()), Path())
    if blocking.is_dir():
        return f"mkdir -p {shlex.quote(str(folder))}"
    return f"{blocking} is a file: choose a place in a folder"


def _shorten(text: str) -> str:
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[:_LONGEST_SHOWN]}… ({len(text)} characters)"
