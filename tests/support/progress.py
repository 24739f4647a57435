"""Progress objects through which a test does something in the middle of a run, or looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from conv2linear.progress import NoProgress


class AtStep(NoProgress):
    """Calls `action` when the step `name` first begins; what it raises ends the run there.

    `happened` tells afterwards whether it did.
    """

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.name, self.action = name, action
        self.happened = False

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Call the action at its step."""
        if name == self.name and not self.happened:
            self.happened = True
            self.action()


class AtFirstBytes(AtStep):
    """Calls `action` once, when the first bytes of the step `name` have been moved."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        super().__init__(name, action)
        self.is_armed = False

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Wait for the bytes of the step."""
        self.is_armed = name == self.name

    def advance(self, count_bytes: int) -> None:
        """Call the action at the first bytes."""
        if self.is_armed:
            self.is_armed = False
            self.happened = True
            self.action()


class SeenProgress(NoProgress):
    """Keeps the names of all steps, the number of bytes that moved, and the warnings.

    `counted` has, for each work beside a step that can be counted, how much of it was done, how
    much there was, and the unit.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.counted: dict[str, tuple[int, int, str]] = {}
        self.moved_bytes = 0
        self.warnings: list[str] = []

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Keep the name."""
        self.steps.append(name)

    def advance(self, count_bytes: int) -> None:
        """Count the bytes."""
        self.moved_bytes += count_bytes

    @contextmanager
    def beside(
        self, name: str, total: int | None = None, unit: str = "bytes"
    ) -> Iterator[Callable[[int], None]]:
        """Count the work."""
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more

        yield count
        if total is not None:
            self.counted[name] = done, total, unit

    def warn(self, message: str) -> None:
        """Keep the message."""
        self.warnings.append(message)


def interrupt_run() -> None:
    """End a run as Ctrl-C does."""
    raise KeyboardInterrupt
