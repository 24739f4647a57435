"""Do independent pieces of work on a few threads, and end them together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from conv2linear.errors import Conv2LinearError

Item = TypeVar("Item")
Returned = TypeVar("Returned")


class _StoppedError(Exception):
    """Other work has failed, so this piece ends early."""


def default_workers() -> int:
    """Return how many threads copy, download or hash where the user does not say.

    Even on few cores four of them keep a disk or a connection busier than one does.
    """
    return min(8, max(4, usable_cpus()))


def usable_cpus() -> int:
    """Return how many processors this process may use; the machine may have more."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_workers(workers: int | None) -> int:
    """Return the number of threads that was asked for, or the default where it is None.

    Raises `Conv2LinearError` for fewer than one, and for what is not a whole number.
    """
    if workers is None:
        return default_workers()
    if not isinstance(workers, int) or workers < 1:
        raise Conv2LinearError(
            f"workers is {workers!r}, expected 1 or more", hint="leave it out for the default"
        )
    return workers


def map_parallel(
    function: Callable[[Item, Callable[[int], None]], Returned],
    items: Sequence[Item],
    *,
    workers: int,
    on_bytes: Callable[[int], object],
    stop: threading.Event | None = None,
    finish_earlier: bool = False,
) -> list[Returned]:
    """Call `function(item, on_bytes)` for each item and return the results in their order.

    What it counts is passed on to `on_bytes`. Once a piece has failed, or the user has interrupted,
    counting raises in all the others, and in all of them once `stop` is set; the first error is
    raised after every thread has ended. With `finish_earlier` the pieces before one that failed are
    finished, so that of several that would fail the first in their order is always the one that is
    told. One worker runs in the calling thread. Raises `Conv2LinearError` for fewer than one.
    """
    workers = min(resolve_workers(workers), len(items))
    run = _Run(function, items, on_bytes, stop or threading.Event(), finish_earlier)
    if workers <= 1:
        run.work()
        return run.results()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for running in [pool.submit(run.work) for _ in range(workers)]:
                running.result()
        except BaseException:  # the user has interrupted: no piece raises here
            run.stop.set()
            raise
    return run.results()


class _Run(Generic[Item, Returned]):
    """The pieces of one run: threads take them in their order, and what comes of each is kept."""

    def __init__(
        self,
        function: Callable[[Item, Callable[[int], None]], Returned],
        items: Sequence[Item],
        on_bytes: Callable[[int], object],
        stop: threading.Event,
        finish_earlier: bool,
    ) -> None:
        self.stop = stop
        self._function, self._items, self._on_bytes = function, items, on_bytes
        self._finish_earlier = finish_earlier
        self._lock = threading.Lock()
        self._next, self._end = 0, len(items)
        self._returned: dict[int, Returned] = {}
        self._errors: dict[int, BaseException] = {}  # in the order in which they came

    def work(self) -> None:
        """Take one piece after the other, until none is left or one has failed."""
        while (number := self._take()) is not None:
            try:
                on_bytes = partial(self._count, number)
                self._returned[number] = self._function(self._items[number], on_bytes)
            except _StoppedError:
                return
            except BaseException as error:
                self._fail(number, error)

    def results(self) -> list[Returned]:
        """Return what came of each piece, or raise the error of the one that failed first."""
        if self._errors:
            raise self._errors[
                min(self._errors) if self._finish_earlier else next(iter(self._errors))
            ]
        if len(self._returned) < len(self._items):
            raise _StoppedError
        return [self._returned[number] for number in range(len(self._items))]

    def _take(self) -> int | None:
        with self._lock:
            number, self._next = self._next, self._next + 1
            return number if number < self._end and not self.stop.is_set() else None

    def _count(self, number: int, count_bytes: int) -> None:
        if self.stop.is_set() or number > self._end:
            raise _StoppedError
        self._on_bytes(count_bytes)

    def _fail(self, number: int, error: BaseException) -> None:
        with self._lock:
            self._errors[number] = error
            if self._finish_earlier and isinstance(error, Exception):
                self._end = min(self._end, number)
            else:
                self.stop.set()


def run_beside(
    function: Callable[[], Returned], beside: Callable[[threading.Event], object]
) -> Returned:
    """Call `function` in this thread and `beside` in another, and return what `function` returns.

    Once `function` has failed, or the user has interrupted, the event that `beside` was given is
    set, and the error is raised when `beside` has ended. An error of `beside` is raised when
    `function` has ended: where both fail, it is always the error of `function` that is raised.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            running = pool.submit(beside, stop)
            returned = function()
            running.result()
        except BaseException:
            stop.set()
            raise
        return returned
