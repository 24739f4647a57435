"""Signals that end a run: none is lost, whatever code it arrives in."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TerminatedError(BaseException):
    """SIGTERM arrived."""


class Interrupts:
    """What has arrived of the signals that end a run.

    The error that a signal raises can be swallowed: the import of torch calls Python from C and
    goes on after any error there. `check` raises it again.
    """

    def __init__(self) -> None:
        self._arrived: type[BaseException] | None = None

    def check(self) -> None:
        """Raise what a signal has raised before, in any thread."""
        if self._arrived is not None:
            raise self._arrived

    def arrive(self, number: int, frame: FrameType | None) -> None:
        """Raise what a signal means; this is its handler."""
        self._arrived = KeyboardInterrupt if number == signal.SIGINT else TerminatedError
        raise self._arrived


@contextlib.contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """Let Ctrl-C raise `KeyboardInterrupt` in the block, and SIGTERM `TerminatedError`.

    An error that comes after a signal may be its consequence, such as that of an import which goes
    on after it was interrupted: the signal is raised instead.
    """
    interrupts = Interrupts()
    with _handled_by(interrupts.arrive):
        try:
            yield interrupts
        except Exception:
            interrupts.check()
            raise


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C come between an error and what is said of it."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], Any] | signal.Handlers,
) -> Iterator[None]:
    """Handle the signals so in the block; those that the caller ignores stay ignored."""
    before = {
        number: signal.signal(number, handler)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
