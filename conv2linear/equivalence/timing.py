"""Time a call, and say how far its runs lie apart."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and quartiles of `runs` runs."""

    median_s: float
    lower_quartile_s: float
    upper_quartile_s: float
    runs: int


def summarise(times: Sequence[float]) -> Timing:
    """Turn the seconds of several runs, or of one, into a `Timing`."""
    median = statistics.median(times)
    lower = upper = median
    if len(times) > 1:
        lower, _, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Timing(median, lower, upper, len(times))


def do_nothing() -> None:
    """Return at once: what is computed on the CPU is done when its call returns."""


def time_runs(
    call: Callable[[], object],
    *,
    runs: int,
    calls_per_run: int = 1,
    budget_s: float = math.inf,
    wait: Callable[[], object] = do_nothing,
) -> Timing:
    """Time `call`, which its caller has warmed up; `wait` returns once all its work is done.

    Each run is the mean of `calls_per_run` calls, and ends with `wait`. There are `runs` runs, or
    fewer where they have spent `budget_s` seconds before, and one at least.
    """
    times: list[float] = []
    while not times or (len(times) < runs and sum(times) * calls_per_run < budget_s):
        start = time.perf_counter()
        for _ in range(calls_per_run):
            call()
        wait()
        times.append((time.perf_counter() - start) / calls_per_run)
    return summarise(times)
