"""Draw what goes on as bars, one below the other, as wide as the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from conv2linear.cli.format import BYTES, format_amount, format_bytes, format_clock


class Bars:
    """The bars of all that goes on; they are drawn while there are any, and then erased."""

    def __init__(self, console: Console) -> None:
        name, done, time = (column(Column(no_wrap=True)) for column in (_Name, _Done, _Time))
        columns = (name, BarColumn(bar_width=None), done, time)
        self._bars = Progress(*columns, console=console, expand=True, transient=True)

    def begin(self, name: str, total: int | None, unit: str) -> _Bar:
        """Show a bar; one without a total only shows how long it takes."""
        self._bars.start()
        return _Bar(self._bars, self._bars.add_task(name, total=total, unit=unit))

    def close(self) -> None:
        """Erase all bars."""
        self._bars.stop()


@dataclass(frozen=True)
class _Bar:
    bars: Progress
    task: TaskID

    def advance(self, count: int) -> None:
        self.bars.advance(self.task, count)

    def end(self, *, is_done: bool) -> None:
        self.bars.remove_task(self.task)


class _Name(ProgressColumn):
    """What goes on."""

    def render(self, task: Task) -> Text:
        return Text(task.description)


class _Done(ProgressColumn):
    """How much of it is done, and of bytes how many in a second."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        unit = task.fields["unit"]
        text = format_amount(int(task.total), unit, done=int(task.completed))
        speed = task.finished_speed or task.speed
        if unit == BYTES and speed:
            text += f"  {format_bytes(int(speed))}/s"
        return Text(text)


class _Time(ProgressColumn):
    """How long it has taken, and how long the rest will take if it goes on like that."""

    max_refresh = 0.5  # else the remaining time flickers

    def render(self, task: Task) -> Text:
        text = format_clock(task.elapsed or 0)
        if task.total is not None and not task.finished and task.time_remaining is not None:
            text += f", {format_clock(task.time_remaining)} left"
        return Text(text)
