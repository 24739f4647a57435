"""Draw the steps of a run: bars on a terminal or in a notebook, lines elsewhere."""

from __future__ import annotations

from importlib.util import find_spec
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from conv2linear.cli.format import format_bytes, format_text


class RichProgress:
    """A `Progress` that shows each step: a bar on a terminal or in a notebook, else a line.

    Use it as a context manager, and pass it as `progress=`. It draws on `console`, stderr where
    that is None. With `quiet` only warnings are printed. In a notebook the bars need ipywidgets.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._quiet, self._draws_bars = quiet, _draws_bars(self._console)
        self._spinner, self._bar = _make_spinner(self._console), _make_bar(self._console)
        self._shown: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> RichProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_step()

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """End the step before and begin the step `name`, which will move `total_bytes`."""
        self._end_step()
        if self._quiet:
            return
        if not self._draws_bars:
            if total_bytes:  # only what may take long is worth a line in a log
                self._console.print(f"{name} {format_bytes(total_bytes)}", soft_wrap=True)
            return
        self._shown = self._bar if total_bytes else self._spinner
        self._shown.start()
        self._task = self._shown.add_task(name, total=total_bytes or None)

    def advance(self, count_bytes: int) -> None:
        """Move the bar on by `count_bytes`."""
        if self._shown is not None and self._task is not None:
            self._shown.advance(self._task, count_bytes)

    def warn(self, message: str) -> None:
        """Print the warning `message` above the bar, with `quiet` too."""
        self._console.print(
            f"[bold yellow]warning:[/] {escape(format_text(message))}", soft_wrap=True
        )

    def _end_step(self) -> None:
        if self._shown is not None and self._task is not None:
            self._shown.remove_task(self._task)
            self._shown.stop()
            self._shown = self._task = None


def _draws_bars(console: Console) -> bool:
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def _make_spinner(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True
    )


def _make_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
