"""What a part of the benchmark gives: promises with what was measured, tables, bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.lib.benchmark.turns import Result

Row = dict[str, Any]

_DECIMALS = {"ms": 0, "MB": 1, "s": 2, "×": 2}


@dataclass(frozen=True)
class Goal:
    """A promise of the project: what it allows, and what was measured.

    `is_reached` is None where nothing was measured, and `measured` then says why.
    """

    promise: str
    limit: str
    measured: str
    is_reached: bool | None


@dataclass(frozen=True)
class Section:
    """A table of the report; the keys of its rows end in their unit: `_s`, `_bytes`, `_ratio`."""

    title: str
    note: str
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class Bar:
    """A bar of the picture, in a group of bars that are compared with each other."""

    group: str
    name: str
    median_s: float
    fastest_s: float
    slowest_s: float
    is_ours: bool


@dataclass(frozen=True)
class Findings:
    """What one part of the benchmark has found."""

    goals: Sequence[Goal] = ()
    sections: Sequence[Section] = ()
    bars: Sequence[Bar] = ()


def join(parts: Sequence[Findings]) -> Findings:
    """Return all findings as one, in this order."""
    return Findings(
        goals=[goal for part in parts for goal in part.goals],
        sections=[section for part in parts for section in part.sections],
        bars=[bar for part in parts for bar in part.bars],
    )


def at_most(promise: str, limit: float, value: float, *, unit: str) -> Goal:
    """Return a goal that is reached by a value up to its limit."""
    return Goal(promise, f"≤ {_number(limit)} {unit}", _measured(value, unit), value <= limit)


def at_least(promise: str, limit: float, value: float, *, unit: str) -> Goal:
    """Return a goal that is reached by a value from its limit on."""
    return Goal(promise, f"≥ {_number(limit)} {unit}", _measured(value, unit), value >= limit)


def spread_cells(result: Result) -> Row:
    """Return the cells that tell how long a contender took until all was on the disk."""
    return {
        "process_s": result.wall_s,
        "until_on_disk_s": result.durable_s,
        "fastest_s": min(result.times),
        "slowest_s": max(result.times),
    }


def bars_of(group: str, results: Sequence[Result], *, suffix: str = "") -> list[Bar]:
    """Return one bar for each result."""
    return [
        Bar(
            group,
            result.contender.name + suffix,
            result.durable_s,
            min(result.times),
            max(result.times),
            is_ours="conv2linear" in result.contender.command,
        )
        for result in results
    ]


def _number(value: float) -> str:
    return f"{value:g}"


def _measured(value: float, unit: str) -> str:
    return f"{value:.{_DECIMALS[unit]}f} {unit}"
