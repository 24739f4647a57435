"""Tell what goes on in lines, for a log: at the beginning, at the end, and now and then."""

from __future__ import annotations

import threading
import time

from rich.console import Console

from conv2linear.cli.format import format_amount, format_clock, format_duration

_LONG_S = 3.0  # work that cannot be counted is told of from then on: most of it is over at once


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
        first_s = self._every_s if total is not None else min(_LONG_S, self._every_s)
        work = _Line(self, name, total, unit, due_s=time.monotonic() + first_s)
        with self._lock:
            self._works.append(work)
            if self._clock is None:
                self._clock = threading.Thread(target=self._tell_now_and_then, daemon=True)
                self._clock.start()
        if total is not None:
            self.print(f"{name} {format_amount(total, unit)}")
        return work

    def end(self, work: _Line, *, is_done: bool) -> None:
        """Tell how long work has taken of which was told that it goes on, if it is done."""
        with self._lock:
            self._works.remove(work)
        if is_done and work.is_complete:
            amount = "" if work.total is None else f" {format_amount(work.total, work.unit)}"
            self.print(f"{work.name}{amount}: done in {format_duration(work.elapsed_s)}")

    def close(self) -> None:
        """Tell no more."""
        self._closed.set()
        if self._clock is not None:
            self._clock.join()

    def print(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, soft_wrap=True, markup=False)

    def _tell_now_and_then(self) -> None:
        while not self._closed.wait(min(1.0, self._every_s)):
            now_s = time.monotonic()
            with self._lock:
                due = [work for work in self._works if work.due_s <= now_s]
            for work in due:
                work.due_s, work.is_told = now_s + self._every_s, True
                self.print(work.describe())


class _Line:
    """Work that goes on, and how much of it is done.

    The next line about it is due at `due_s`; `is_told` says whether there was one of these.
    """

    def __init__(
        self, lines: Lines, name: str, total: int | None, unit: str, *, due_s: float
    ) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, 0
        self.due_s, self.is_told = due_s, False
        self._lines, self._begun_s = lines, time.monotonic()
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._begun_s

    @property
    def is_complete(self) -> bool:
        """Whether all of it is done, or, where it cannot be counted, a line has told of it."""
        return self.is_told if self.total is None else self.done >= self.total

    def advance(self, count: int) -> None:
        """Count what more is done."""
        with self._lock:
            self.done += count

    def end(self, *, is_done: bool) -> None:
        """Tell that it is over."""
        self._lines.end(self, is_done=is_done)

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
