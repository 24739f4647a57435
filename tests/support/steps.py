"""Do something at a step of an operation, through the progress that its caller passes."""

from __future__ import annotations

from collections.abc import Callable


class AtStep:
    """A `Progress` that calls a function when a step of this name begins for the first time."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.happened = False
        self._name, self._action = name, action

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Call the function if the step is the one."""
        if name == self._name and not self.happened:
            self.happened = True
            self._action()

    def advance(self, count_bytes: int) -> None:
        """Ignore the bytes."""

    def warn(self, message: str) -> None:
        """Ignore the warning."""


class Steps:
    """A `Progress` that keeps the names of the steps, and the warnings."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.warnings: list[str] = []

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Keep the name."""
        self.names.append(name)

    def advance(self, count_bytes: int) -> None:
        """Ignore the bytes."""

    def warn(self, message: str) -> None:
        """Keep the warning."""
        self.warnings.append(message)
