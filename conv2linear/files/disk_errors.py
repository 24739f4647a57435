"""Say in one line what an `OSError` means, for the reading of a source and the writing of OUT."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from conv2linear.errors import OutputError, SourceUnreadableError
from conv2linear.files.limits import NO_SPACE, NOT_ALLOWED, find_limit_hint


@contextlib.contextmanager
def read_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` into a `SourceUnreadableError` that names the file, or else `path`."""
    try:
        yield
    except OSError as error:
        raise as_read_error(error, path) from error


def as_read_error(error: OSError, path: str | os.PathLike[str]) -> SourceUnreadableError:
    """Return the `SourceUnreadableError` that says what an `OSError` of reading `path` means."""
    return SourceUnreadableError(
        f"{_place(error, path)}: cannot be read: {error.strerror or error}",
        hint=find_limit_hint(error) or _read_hint(error),
    )


def _read_hint(error: OSError) -> str:
    if error.errno in NOT_ALLOWED:
        return "give this user the right to read it"
    if isinstance(error, FileNotFoundError):
        return "it was there just now: wait until whatever writes there is done, then run again"
    return "the disk or the network share may be at fault: does `cat` read it?"


@contextlib.contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` into an `OutputError` that says why `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise as_output_error(error, path) from error


def as_output_error(error: OSError, path: str | os.PathLike[str]) -> OutputError:
    """Return the `OutputError` that says what an `OSError` of writing `path` means."""
    if error.errno in NO_SPACE:
        return OutputError(
            f"no space left on the disk of {os.fspath(path)}",
            hint="free some and run again: files that are whole by now are used again",
        )
    return OutputError(
        f"{_place(error, path)}: {error.strerror or error}",
        hint="give this user the right to write there"
        if error.errno in NOT_ALLOWED
        else find_limit_hint(error),
    )


def _place(error: OSError, path: str | os.PathLike[str]) -> str:
    return os.fsdecode(error.filename or path)
