"""Say what an `OSError` means, in one line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from conv2linear.errors import OutputError


@contextlib.contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn an `OSError` into an `OutputError` that says what is wrong with the disk."""
    try:
        yield
    except OSError as error:
        raise as_output_error(error, out) from error


def as_output_error(error: OSError, out: Path) -> OutputError:
    """Turn an `OSError` into an `OutputError` that says what is wrong with the disk."""
    where = error.filename or out
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"no space left on the disk of {out}",
            hint="free some and run again: what is written so far is used again",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(
            f"{where}: {error.strerror}", hint="may you read the source and write beside OUT?"
        )
    return OutputError(f"{where}: {error.strerror or error}")
