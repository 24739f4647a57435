"""Draw the steps of a run: bars on a terminal, one line for each step elsewhere."""

from __future__ import annotations

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


class StepDisplay:
    """A `conv2linear.progress.Progress` that draws on a console."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._spinner, self._bar = _make_spinner(console), _make_bar(console)
        self._shown: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> StepDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_step()

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """End the step before and begin this one."""
        self._end_step()
        if self._quiet:
            return
        if not self._console.is_terminal:
            if total_bytes:  # only what may take long is worth a line in a log
                self._console.print(f"{name} {format_bytes(total_bytes)}", soft_wrap=True)
            return
        self._shown = self._bar if total_bytes else self._spinner
        self._shown.start()
        self._task = self._shown.add_task(name, total=total_bytes or None)

    def advance(self, count_bytes: int) -> None:
        """Move the bar on."""
        if self._shown is not None and self._task is not None:
            self._shown.advance(self._task, count_bytes)

    def warn(self, message: str) -> None:
        """Print a warning above the bar; --quiet does not silence it."""
        self._console.print(
            f"[bold yellow]warning:[/] {escape(format_text(message))}", soft_wrap=True
        )

    def _end_step(self) -> None:
        if self._shown is not None and self._task is not None:
            self._shown.remove_task(self._task)
            self._shown.stop()
            self._shown = self._task = None


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
