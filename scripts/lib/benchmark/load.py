"""How quiet the machine is while it is measured."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_WATCHED_S = 3.0
_QUIET_SHARE = 0.05  # of all processors that others may use
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """The share of all processors that others used, just before and just after the benchmark."""

    before: float
    after: float

    @property
    def is_quiet(self) -> bool:
        """Whether others used next to nothing."""
        return max(self.before, self.after) <= _QUIET_SHARE

    def describe(self) -> str:
        """Say it as a part of a sentence."""
        used = f"others used {self.before:.0%} of the processors before and {self.after:.0%} after"
        return f"a quiet machine ({used})" if self.is_quiet else f"**not** a quiet machine ({used})"


def watch(seconds: float = _WATCHED_S) -> float:
    """Return the share of all processors that is used, while this process sleeps."""
    before = _busy_s()
    time.sleep(seconds)
    return (_busy_s() - before) / seconds / (os.cpu_count() or 1)


def _busy_s() -> float:
    """Return the seconds that all processors together have spent on anything but waiting.

    See proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    """
    with Path("/proc/stat").open() as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS_PER_S
