"""The limits of time and memory catch what goes beyond them."""

from __future__ import annotations

import time

import pytest

from tests.support.limits import MEMORY_FACTOR, MEMORY_FLOOR, memory_within, no_hang


def test_memory_beyond_a_multiple_is_found() -> None:
    with pytest.raises(AssertionError), memory_within(1000):
        bytearray(MEMORY_FLOOR + MEMORY_FACTOR * 1000 + 1)


def test_a_hang_is_found() -> None:
    with pytest.raises(AssertionError, match="hangs for more than 1 s"), no_hang(seconds=1):
        time.sleep(10)
