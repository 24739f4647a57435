"""Tell what goes on in lines, for a log: at the beginning, at the end, and now and then."""

from __future__ import annotations

import threading
import time

from rich.console import Console

from conv2linear.cli.format import format_amount, format_clock, format_duration


class Lines:
    """The lines of all that goes on; every `every_s` seconds one for each of them."""

    def __init__(self, console: Console, *, every_s: float) -> None:
        self._console, self._every_s = console, every_s
        self._works: list[_Line] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._clock: threading.Thread | None = None

    def begin(self, name: str, total: int | None, unit: str) -> _Line:
        """Tell that work begins that can be counted; of other work only if it takes long."""
        work = _Line(self, name, total, unit)
        with self._lock:
            self._works.append(work)
            if self._clock is None:
                self._clock = threading.Thread(target=self._tell_now_and_then, daemon=True)
                self._clock.start()
        if total is not None:
            self.print(f"{name} {format_amount(total, unit)}")
        return work

    def end(self, work: _Line) -> None:
        """Tell how long work has taken that could be counted, if all of it is done."""
        with self._lock:
            self._works.remove(work)
        if work.total is not None and work.done >= work.total:
            amount = format_amount(work.total, work.unit)
            self.print(f"{work.name} {amount}: done in {format_duration(work.elapsed_s)}")

    def close(self) -> None:
        """Tell no more."""
        self._closed.set()
        if self._clock is not None:
            self._clock.join()

    def print(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, soft_wrap=True, markup=False)

    def _tell_now_and_then(self) -> None:
        while not self._closed.wait(self._every_s):
            with self._lock:
                works = list(self._works)
            for work in works:
                self.print(work.describe())


class _Line:
    """Work that goes on, and how much of it is done."""

    def __init__(self, lines: Lines, name: str, total: int | None, unit: str) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, 0
        self._lines, self._begun_s = lines, time.monotonic()
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._begun_s

    def advance(self, count: int) -> None:
        """Count what more is done."""
        with self._lock:
            self.done += count

    def end(self) -> None:
        """Tell that it is over."""
        self._lines.end(self)

    def describe(self) -> str:
        """Say how far it is, how long it has taken, and how long the rest may take."""
        elapsed_s = self.elapsed_s
        if self.total is None:
            return f"{self.name}: {format_clock(elapsed_s)}"
        text = f"{self.name} {format_amount(self.total, self.unit, done=self.done)}, "
        text += format_clock(elapsed_s)
        if 0 < self.done < self.total:
            left_s = elapsed_s * (self.total - self.done) / self.done
            text += f", {format_clock(left_s)} left"
        return text
