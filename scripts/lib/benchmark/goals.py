"""What the project promises of its speed and memory, compared with what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.lib.benchmark.baseline import Baseline
from scripts.lib.benchmark.contenders import (
    COMPRESSED_TENSORS,
    CONVERT,
    COPY,
    HARDLINK,
    Result,
)
from scripts.lib.benchmark.report import Goal

_MB = 1e6


@dataclass(frozen=True)
class Measured:
    """All that the goals are about.

    `copied`, `reflinked` and `counted` are the results with every byte copied or hard-linked, on a
    file system that shares blocks (empty where there is none), and by number of shards.
    """

    baseline: Baseline
    inspect_s: float
    copied: Sequence[Result]
    reflinked: Sequence[Result] = field(default_factory=list)
    counted: Sequence[Result] = field(default_factory=list)


def check_goals(measured: Measured) -> list[Goal]:
    """Compare each promise with what was measured."""
    return [
        *_start_goals(measured.baseline, measured.inspect_s),
        *_copy_goals(measured),
        *_link_goals(measured),
        _memory_goal(measured),
    ]


def _start_goals(baseline: Baseline, inspect_s: float) -> list[Goal]:
    help_s, check_s = baseline.help_s - baseline.python_s, baseline.check_s
    inspect = "`inspect`, 100,000 tensors in 46 shards"
    return [
        Goal("`--help` over bare Python", "150 ms", f"{help_s * 1e3:.0f} ms", help_s <= 0.15),
        Goal(inspect, "1 s", f"{inspect_s:.2f} s", inspect_s <= 1),
        Goal("check, 1536 × 1176 on the CPU", "3 s", f"{check_s:.2f} s", check_s <= 3),
    ]


def _copy_goals(measured: Measured) -> list[Goal]:
    baseline = measured.baseline
    by_name = {result.contender.name: result for result in measured.copied}
    converted, copied = by_name[CONVERT.name], by_name[COPY.name]
    other = by_name[COMPRESSED_TENSORS.name]
    whole = converted.durable_s / copied.durable_s
    beyond = baseline.beyond_torch_s(converted) / baseline.beyond_torch_s(copied)
    faster = baseline.beyond_torch_s(other) / baseline.beyond_torch_s(converted)
    less = baseline.beyond_torch_bytes(other) / baseline.beyond_torch_bytes(converted)
    copying = "copying, of `cp -r` and fsync"
    goals = [
        Goal(f"{copying}, the whole process", "1.25 ×", f"{whole:.2f} ×", whole <= 1.25),
        Goal(f"{copying}, beyond import torch", "0.9 ×", f"{beyond:.2f} ×", beyond <= 0.9),
        Goal("copying, faster than compressed-tensors", "3 ×", f"{faster:.1f} ×", faster >= 3),
        Goal("less memory than it", "8 ×", f"{less:.1f} ×", less >= 8),
    ]
    sharing = [result for result in measured.reflinked if result.contender is CONVERT]
    if sharing:
        slowest_s = max(baseline.beyond_torch_s(result) for result in sharing)
        times = baseline.beyond_torch_s(other) / slowest_s
        goals.append(Goal("reflink, faster than it", "20 ×", f"{times:.1f} ×", times >= 20))
    return goals


def _link_goals(measured: Measured) -> list[Goal]:
    linked = [result for result in measured.copied if result.contender is HARDLINK]
    elsewhere = (*measured.reflinked, *measured.counted)
    linked += [result for result in elsewhere if result.contender is not COPY]
    longest_s = max(measured.baseline.overhead_s(result) for result in linked)
    contenders = (CONVERT, HARDLINK) if measured.reflinked else (HARDLINK,)
    spread_s = max(_spread_s(measured.counted, contender.name) for contender in contenders)
    overhead = "reflink or `--hardlink`, beyond import torch and check, at most"
    spread = "the same, most minus least over 1 to 46 shards of any size"
    goals = [
        Goal(overhead, "1 s", f"{longest_s:.2f} s", longest_s <= 1),
        Goal(spread, "0.5 s", f"{spread_s:.2f} s", spread_s <= 0.5),
    ]
    disk = [result.disk_bytes for result in measured.reflinked if result.contender is not COPY]
    if disk:
        most = max(disk) / _MB
        goals.append(Goal("disk that it takes", "10 MB", f"{most:.1f} MB", most <= 10))
    return goals


def _spread_s(results: Sequence[Result], name: str) -> float:
    times = [result.durable_s for result in results if result.contender.name == name]
    return max(times) - min(times)


def _memory_goal(measured: Measured) -> Goal:
    results = (*measured.copied, *measured.reflinked, *measured.counted)
    converted = [result for result in results if result.contender in (CONVERT, HARDLINK)]
    most = max(measured.baseline.beyond_torch_bytes(result) for result in converted) / _MB
    promise = "peak memory beyond import torch, any shard size"
    return Goal(promise, "100 MB", f"{most:.0f} MB", most <= 100)
