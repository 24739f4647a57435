"""Time a call, and say how far its runs lie apart."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_SAMPLE_S = 1e-3  # a shorter run is repeated: the clock, and waiting for a GPU, must not count
_MAX_RUNS = 30


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


def time_call(call: Callable[[], object], *, first_s: float, budget_s: float) -> Timing:
    """Time `call`, which returns once its work is done and took `first_s` seconds before.

    That run has warmed up the others, and counts only where it has spent `budget_s` seconds by
    itself. Else the call runs until they are spent, at most 30 times.
    """
    if first_s >= budget_s:
        return summarise([first_s])
    repeats = max(1, math.ceil(_SAMPLE_S / max(first_s, 1e-6)))
    times: list[float] = []
    while sum(times) * repeats < budget_s and len(times) < _MAX_RUNS:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        times.append((time.perf_counter() - start) / repeats)
    return summarise(times)
