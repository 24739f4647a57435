"""Limits of time and memory within which a test must stay."""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HANG_S = 20  # nothing here takes a second
MEMORY_FACTOR = 64  # an empty list takes 3 bytes as text and 64 in memory
MEMORY_FLOOR = 1 << 20


@contextmanager
def no_hang(*, seconds: int = HANG_S) -> Iterator[None]:
    """Fail, instead of waiting for ever, where the input keeps the reader busy."""

    def stop(*_: Any) -> None:
        raise AssertionError(f"hangs for more than {seconds} s")

    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def memory_within(size_bytes: int) -> Iterator[None]:
    """Check that what Python allocates stays below a multiple of the input's size."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY_FACTOR * size_bytes + MEMORY_FLOOR
