"""Draw the steps of a run: bars on a terminal or in a notebook, lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape

from conv2linear.cli.format import BYTES, format_text
from conv2linear.cli.progress_lines import Lines

if TYPE_CHECKING:
    from conv2linear.cli.progress_bars import Bars


class Work(Protocol):
    """A step, or what goes on beside it, as it is shown."""

    def advance(self, count: int) -> None:
        """Count what more of it is done."""

    def end(self, *, is_done: bool) -> None:
        """Show it no longer; where it is not done, it has failed."""


class RichProgress:
    """A `Progress` that shows each step: a bar on a terminal or in a notebook, else lines.

    Use it as a context manager, and pass it as `progress=`. It draws on `console`, stderr where
    that is None. With `quiet` only warnings are printed. Without bars there is a line where
    something that can be counted begins and ends, and one every `line_s` seconds for all that goes
    on, of what cannot be counted once it has taken some seconds. In a notebook the bars need
    ipywidgets. `check` is called with every step and count: what it raises ends the run.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        line_s: float = 30,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._check = check
        self._console = console or Console(stderr=True, highlight=False)
        self._shown = None if quiet else _show_on(self._console, line_s)
        self._step: Work | None = None
        self._step_name = ""
        self._names_beside: list[str] = []
        self._lock = threading.RLock()  # a step may end while another thread counts

    def __enter__(self) -> RichProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_step(is_done=kind is None)
        if self._shown is not None:
            self._shown.close()

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """End the step before and begin the step `name`, which will move `total_bytes`."""
        self._check()
        with self._lock:
            self._end_step()
            self._step_name = name
            if self._shown is not None and name not in self._names_beside:
                self._step = self._shown.begin(name, total_bytes or None, BYTES)

    def advance(self, count_bytes: int) -> None:
        """Count `count_bytes` more that the current step has moved."""
        self._check()
        with self._lock:
            if self._step is not None:
                self._step.advance(count_bytes)

    @contextmanager
    def beside(
        self, name: str, total: int | None = None, unit: str = "bytes"
    ) -> Iterator[Callable[[int], None]]:
        """Show work beside the current step until it is left.

        Work that has the name of a step is shown in its place.
        """
        self._check()
        if self._shown is None:
            yield _ignore
            return
        with self._lock:
            self._names_beside.append(name)
            if name == self._step_name:
                self._end_step(is_done=False)  # it goes on
        work = self._shown.begin(name, total, unit)
        is_done = False
        try:
            yield work.advance
            is_done = True
        finally:
            work.end(is_done=is_done)
            self._names_beside.remove(name)

    def warn(self, message: str) -> None:
        """Print the warning `message` above the bars, with `quiet` too."""
        self._console.print(
            f"[bold yellow]warning:[/] {escape(format_text(message))}", soft_wrap=True
        )

    def _end_step(self, *, is_done: bool = True) -> None:
        with self._lock:
            if self._step is not None:
                self._step.end(is_done=is_done)
            self._step = None


def _show_on(console: Console, line_s: float) -> Bars | Lines:
    if console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None):
        from conv2linear.cli.progress_bars import Bars  # not for --help

        return Bars(console)
    return Lines(console, every_s=line_s)


def _ignore(count: int) -> None:
    """Count nothing."""
