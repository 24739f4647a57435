"""Paths as callers give them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from conv2linear.errors import Conv2LinearError

StrPath: TypeAlias = str | os.PathLike[str]

_LONGEST_SHOWN = 100  # characters of a name in a message


def parse_path(path: StrPath, *, what: str, error: type[Conv2LinearError]) -> Path:
    """Return a path that the operating system accepts; nothing has to exist there.

    `what` names the path in the message of the `error` that is raised for an empty name, one that
    is too long or holds a NUL, and one that leads through what may not be read.
    """
    text = os.fspath(path)
    if not text:
        raise error(f"{what} is an empty name", hint="name a folder")
    try:
        os.stat(text)  # noqa: PTH116 - Path.exists hides some of these errors
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as reason:
        shown = text if text.isprintable() else ascii(text)
        if len(shown) > _LONGEST_SHOWN:
            shown = f"{shown[:_LONGEST_SHOWN]}… ({len(text)} characters)"
        why = reason.strerror if isinstance(reason, OSError) else reason
        raise error(f"{what} {shown}: {why}", hint="give another name") from reason
    return Path(path)
