"""What another program may do to a file of the source while a run reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Change = Callable[[Path, float], None]
"""Changes a file; the share, 0 to 1, says where in it or how much."""


def _truncate(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def _write_within(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * share))
        file.write(os.urandom(64))


def _append(path: Path, share: float) -> None:
    with path.open("ab") as file:
        file.write(bytes(1 + int(share * 1000)))


def _replace(path: Path, share: float) -> None:
    new = path.with_name("new")
    new.write_bytes(path.read_bytes()[:-1] + b" ")
    new.replace(path)


def _remove(path: Path, share: float) -> None:
    path.unlink()


CHANGES: dict[str, Change] = {
    "shrinks": _truncate,
    "is written to": _write_within,
    "grows": _append,
    "is replaced": _replace,
    "is removed": _remove,
}
# A hard link of the file, which is what OUT has under --hardlink, does not change with these.
CHANGES_OF_THE_NAME = ("is replaced", "is removed")
