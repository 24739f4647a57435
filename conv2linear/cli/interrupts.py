"""Signals that end a run: none is lost, whatever code it arrives in."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TerminatedError(BaseException):
    """SIGTERM arrived."""


class Interrupts:
    """A context in which Ctrl-C raises `KeyboardInterrupt`, and SIGTERM `TerminatedError`.

    Such an error can be swallowed: the import of torch calls Python from C and goes on after any
    error there. `check` raises it again. Signals that the caller ignores stay ignored.
    """

    def __init__(self) -> None:
        self._arrived: type[BaseException] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise what a signal has raised before, in any thread."""
        if self._arrived is not None:
            raise self._arrived

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._arrived = KeyboardInterrupt if number == signal.SIGINT else TerminatedError
        raise self._arrived


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C come between an error and what is said of it."""
    handlers = [signal.signal(number, signal.SIG_IGN) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
