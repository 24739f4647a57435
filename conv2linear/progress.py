"""How an operation tells its caller what it is doing; the command line draws it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from conv2linear.errors import Conv2LinearWarning

_PACKAGE = str(Path(__file__).parent) + os.sep


class Progress(Protocol):
    """Receives the steps of a run. Called from several threads.

    A subclass of `NoProgress` need only have the methods that it cares about.
    """

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Begin a step, which ends the one before.

        `name` is a few words such as "check"; `total_bytes` is what the step will move, None where
        that is not known.
        """

    def advance(self, count_bytes: int) -> None:
        """Count `count_bytes` more that the current step has moved."""

    def beside(
        self, name: str, total: int | None = None, unit: str = "bytes"
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Show work that goes on beside the current step, and those after it, until it is left.

        Gives a function that counts how much more of `total` is done; `unit` is a word such as
        "patches". `total` is None where it is not known.
        """

    def warn(self, message: str) -> None:
        """Receive a `message` that the user should know and that stops nothing."""


class NoProgress:
    """A `Progress` for callers that want none: warnings go to Python's `warnings` module."""

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Ignore the step."""

    def advance(self, count_bytes: int) -> None:
        """Ignore the bytes."""

    def beside(
        self, name: str, total: int | None = None, unit: str = "bytes"
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Ignore the work."""
        return nullcontext(_ignore)

    def warn(self, message: str) -> None:
        """Issue `message` as a `Conv2LinearWarning` at the line that called conv2linear."""
        warnings.warn(message, Conv2LinearWarning, stacklevel=_stack_level())


class RecordedProgress:
    """Passes all on to the caller's progress and keeps the warnings, for the result.

    A warning that comes again is passed on once. `progress` is what the caller gave; where that is
    None, a `NoProgress` takes its place.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress: Progress = progress if progress is not None else NoProgress()
        self._warnings: list[str] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        """The messages of all warnings so far, in their order."""
        return tuple(self._warnings)

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Pass the step on."""
        self._progress.step(name, total_bytes)

    def advance(self, count_bytes: int) -> None:
        """Pass the bytes on."""
        self._progress.advance(count_bytes)

    def beside(
        self, name: str, total: int | None = None, unit: str = "bytes"
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Pass the work on."""
        return self._progress.beside(name, total, unit)

    def warn(self, message: str) -> None:
        """Keep the warning, and pass it on."""
        if message not in self._warnings:
            self._warnings.append(message)
            self._progress.warn(message)

    def warn_all(self, messages: Iterable[str]) -> None:
        """Keep several warnings, and pass them on."""
        for message in messages:
            self.warn(message)


def _ignore(count: int) -> None:
    """Count nothing."""


def _stack_level() -> int:
    """Count the frames from `NoProgress.warn` to the first that is not of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level
