"""Work on threads: results in order, the first error, and a number of threads that works."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from conv2linear.errors import Conv2LinearError
from conv2linear.parallel import default_workers, map_parallel, resolve_workers, run_beside
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


def test_two_works_go_on_at_a_time_and_the_first_gives_the_result() -> None:
    first, second = threading.Event(), threading.Event()

    def beside(stop: threading.Event) -> None:
        first.set()
        assert second.wait(10)

    def work() -> str:
        assert first.wait(10)
        second.set()
        return "done"

    assert run_beside(work, beside) == "done"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_first_work_stops_the_one_beside_it(
    error: type[BaseException], workers: int
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def copy(item: int, on_bytes: OnBytes) -> None:
        begun.set()
        try:
            while True:
                on_bytes(1)
        finally:
            ended.set()

    def beside(stop: threading.Event) -> None:
        map_parallel(copy, [0, 1], workers=workers, progress=NoProgress(), stop=stop)

    def fail() -> None:
        begun.wait(10)
        raise error("the first")

    with pytest.raises(error, match="the first"):
        run_beside(fail, beside)
    assert ended.is_set()


@pytest.mark.parametrize("first_fails", [True, False])
def test_where_both_works_fail_it_is_always_the_first_that_is_told(first_fails: bool) -> None:
    failed = threading.Event()

    def beside(stop: threading.Event) -> None:
        failed.set()
        raise ValueError("beside")

    def work() -> None:
        failed.wait(10)
        if first_fails:
            raise ValueError("the first")

    with pytest.raises(ValueError, match="the first" if first_fails else "beside"):
        run_beside(work, beside)
