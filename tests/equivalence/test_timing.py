"""Runs are as many as were asked for, and as long as their budget lasts."""

from __future__ import annotations

import time

import pytest

from conv2linear.equivalence.timing import summarise, time_runs


class Counter:
    """Counts its calls, each of which takes a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls = seconds, 0

    def __call__(self) -> None:
        self.calls += 1
        time.sleep(self.seconds)


@pytest.mark.parametrize(("runs", "calls_per_run"), [(1, 1), (9, 1), (3, 4)])
def test_a_call_is_run_as_often_as_was_asked_for(runs: int, calls_per_run: int) -> None:
    call = Counter()
    assert time_runs(call, runs=runs, calls_per_run=calls_per_run).runs == runs
    assert call.calls == runs * calls_per_run


def test_no_run_begins_after_the_budget_is_spent() -> None:
    call = Counter(0.02)
    assert time_runs(call, runs=100, budget_s=0.05).runs == call.calls <= 3
    assert time_runs(Counter(), runs=100, budget_s=0.0).runs == 1


def test_the_time_is_that_of_one_call() -> None:
    timing = time_runs(Counter(0.05), runs=3, calls_per_run=2)
    assert 0.05 <= timing.lower_quartile_s <= timing.median_s <= timing.upper_quartile_s
    assert timing.lower_quartile_s < 0.1


def test_a_summary_has_the_median_and_the_quartiles() -> None:
    timing = summarise([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (timing.lower_quartile_s, timing.median_s, timing.upper_quartile_s) == (2.0, 3.0, 4.0)
    assert timing.runs == 5
    alone = summarise([2.5])
    assert alone.lower_quartile_s == alone.median_s == alone.upper_quartile_s == 2.5
