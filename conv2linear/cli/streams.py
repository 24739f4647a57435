"""The standard streams of this process: ready to be written to, and given up where they cannot."""

from __future__ import annotations

import contextlib
import io
import os
import sys

_STDIN, _STDOUT, _STDERR = 0, 1, 2  # file descriptors


class _Forgiving(io.TextIOWrapper):
    """A stream for messages: where it cannot be written, they are lost and nothing else."""

    def write(self, text: str) -> int:
        """Write text if that can be done."""
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what is written so far if that can be done."""
        with contextlib.suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Let every character be printed, as an escape where the encoding of a stream has none.

    What a library prints by itself, past Python, goes to stderr: stdout is for the result. A stream
    that was closed gets a place that nothing can be read from or written to: else the next file
    that is opened would take its number, and be written to by whoever prints.
    """
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        _occupy(descriptor)
    own = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    sys.stdout = open(  # noqa: SIM115
        own, "w", encoding=encoding, errors="backslashreplace", closefd=False
    )
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    elif isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Forgiving(
            sys.stderr.buffer,
            encoding=sys.stderr.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )


def flush_stdout() -> OSError | None:
    """Pass on all that was printed; return what went wrong, and print nothing more then."""
    try:
        sys.stdout.flush()
    except OSError as error:
        give_up_stdout()
        return error
    return None


def give_up_stdout() -> None:
    """Let nothing of what is still to be printed raise an error at the end of the process."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_utf8() -> bool:
    """Tell whether stdout takes every character as it is."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _occupy(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_WRONLY if descriptor == _STDIN else os.O_RDONLY)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
