"""Work on threads: results in order, the first error, and a number of threads that works."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from conv2linear.errors import Conv2LinearError
from conv2linear.parallel import default_workers, map_parallel, resolve_workers
from conv2linear.progress import NoProgress

OnBytes = Callable[[int], None]


@pytest.mark.parametrize("workers", [1, 2, 100])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def double(item: int, on_bytes: OnBytes) -> int:
        on_bytes(item)
        return 2 * item

    items = list(range(20))
    done = map_parallel(double, items, workers=workers, progress=NoProgress())
    assert done == [2 * item for item in items]
    assert map_parallel(double, [], workers=workers, progress=NoProgress()) == []


def test_the_first_error_stops_the_others() -> None:
    failed = threading.Event()

    def work(item: int, on_bytes: OnBytes) -> None:
        if item == 0:
            failed.set()
            raise ValueError("the first")
        failed.wait()
        while True:
            on_bytes(1)

    with pytest.raises(ValueError, match="the first"):
        map_parallel(work, [0, 1, 2, 3], workers=2, progress=NoProgress())


def test_the_default_is_taken_only_where_nothing_is_said() -> None:
    assert resolve_workers(None) == default_workers() >= 4
    assert resolve_workers(1) == 1


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workers: int) -> None:
    with pytest.raises(Conv2LinearError, match=f"workers is {workers}, expected 1 or more"):
        resolve_workers(workers)
    with pytest.raises(Conv2LinearError):
        map_parallel(lambda item, on_bytes: item, [1], workers=workers, progress=NoProgress())
