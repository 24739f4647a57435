"""How the verbs tell a caller what they are doing; the command line draws it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the steps of a run. Called from several threads."""

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Begin a step: `total_bytes` is what it will move, None where that is not known."""

    def advance(self, count_bytes: int) -> None:
        """Count bytes that the current step has moved."""

    def warn(self, message: str) -> None:
        """Say something that the user should know and that stops nothing."""


class NoProgress:
    """A `Progress` for callers that want none."""

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Ignore it."""

    def advance(self, count_bytes: int) -> None:
        """Ignore it."""

    def warn(self, message: str) -> None:
        """Ignore it."""
