"""Work on threads: results in order, the first error, and a number of threads that works."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from conv2linear.errors import Conv2LinearError
from conv2linear.parallel import (
    default_workers,
    map_parallel,
    resolve_workers,
    run_beside,
    usable_cpus,
)

OnBytes = Callable[[int], None]


def ignore(count: int) -> None:
    """Count nothing."""


@pytest.mark.parametrize("workers", [1, 2, 100])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def double(item: int, on_bytes: OnBytes) -> int:
        on_bytes(item)
        return 2 * item

    items = list(range(20))
    done = map_parallel(double, items, workers=workers, on_bytes=ignore)
    assert done == [2 * item for item in items]
    assert map_parallel(double, [], workers=workers, on_bytes=ignore) == []


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
        map_parallel(work, [0, 1, 2, 3], workers=2, on_bytes=ignore)


@pytest.mark.parametrize("finish_earlier", [True, False])
def test_of_several_errors_the_first_in_order_is_told_where_that_is_asked(
    finish_earlier: bool,
) -> None:
    """Piece 1 fails only when piece 2 has, and piece 3 would go on for ever."""
    failed, begun, stopped = threading.Event(), threading.Barrier(4), threading.Event()

    def work(item: int, on_bytes: OnBytes) -> None:
        begun.wait(10)
        if item == 2:
            failed.set()
            raise ValueError("piece 2")
        if item == 3:
            try:
                while True:
                    on_bytes(1)
            finally:
                stopped.set()
        assert stopped.wait(10)
        on_bytes(1)
        if item == 1:
            raise ValueError("piece 1")

    with pytest.raises(ValueError, match="piece 1" if finish_earlier else "piece 2"):
        map_parallel(work, range(4), workers=4, on_bytes=ignore, finish_earlier=finish_earlier)
    assert stopped.is_set()


def test_an_interrupted_piece_ends_those_before_it_too() -> None:
    begun = threading.Event()

    def work(item: int, on_bytes: OnBytes) -> None:
        if item == 1:
            assert begun.wait(10)
            raise KeyboardInterrupt
        while True:
            begun.set()
            on_bytes(1)

    with pytest.raises(KeyboardInterrupt):
        map_parallel(work, [0, 1], workers=2, on_bytes=ignore, finish_earlier=True)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no such limit")
def test_the_processors_are_those_that_the_process_may_use() -> None:
    all_cpus = os.sched_getaffinity(0)
    assert usable_cpus() == len(all_cpus)
    os.sched_setaffinity(0, {min(all_cpus)})
    try:
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, all_cpus)


def test_the_default_is_taken_only_where_nothing_is_said() -> None:
    assert resolve_workers(None) == default_workers() >= 4
    assert resolve_workers(1) == 1


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workers: int) -> None:
    with pytest.raises(Conv2LinearError, match=f"workers is {workers}, expected 1 or more"):
        resolve_workers(workers)
    with pytest.raises(Conv2LinearError):
        map_parallel(lambda item, on_bytes: item, [1], workers=workers, on_bytes=ignore)


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
        map_parallel(copy, [0, 1], workers=workers, on_bytes=ignore, stop=stop)

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
