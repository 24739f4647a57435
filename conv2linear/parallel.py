"""Do independent pieces of work on a few threads, and end them together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from conv2linear.errors import Conv2LinearError
from conv2linear.progress import Progress

Item = TypeVar("Item")
Returned = TypeVar("Returned")


class _StoppedError(Exception):
    """Other work has failed, so this piece ends early."""


def default_workers() -> int:
    """Return how many threads copy, download or hash where the user does not say.

    Even on few cores four of them keep a disk or a connection busier than one does.
    """
    return min(8, max(4, os.cpu_count() or 1))


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
    progress: Progress,
    stop: threading.Event | None = None,
) -> list[Returned]:
    """Call `function(item, on_bytes)` for each item and return the results in their order.

    `on_bytes` counts bytes on `progress`; once a piece has failed, or the user has interrupted,
    it raises in all the others, and in all of them once `stop` is set. The first error is raised
    after every thread has ended. One worker runs in the calling thread. Raises `Conv2LinearError`
    for fewer than one worker.
    """
    workers = resolve_workers(workers)
    stop = stop or threading.Event()

    def on_bytes(count: int) -> None:
        if stop.is_set():
            raise _StoppedError
        progress.advance(count)

    if workers == 1:
        return [function(item, on_bytes) for item in items]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            futures = [pool.submit(function, item, on_bytes) for item in items]
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]


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
