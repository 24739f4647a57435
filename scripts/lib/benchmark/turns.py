"""Let commands take turns, so that what else the machine does hits all of them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scripts.lib.benchmark.processes import Run

CONV2LINEAR = (sys.executable, "-m", "conv2linear")


@dataclass(frozen=True)
class Contender:
    """A command that is measured; `syncs` if its files are on the disk at its end."""

    name: str
    command: tuple[str, ...]
    imports_torch: bool
    syncs: bool = False


@dataclass(frozen=True)
class Turn:
    """One run of a contender, and what it took after it until all was on the disk."""

    run: Run
    sync_s: float = 0.0
    disk_bytes: int = 0


@dataclass(frozen=True)
class Result:
    """Medians of one contender's turns; the peak is the largest.

    `wall_s` ends with the process, `durable_s` when every byte is on the disk. `times` are the
    durable seconds of each turn, `disk_bytes` what the output takes of the disk.
    """

    contender: Contender
    wall_s: float
    durable_s: float
    times: tuple[float, ...]
    peak_bytes: int
    disk_bytes: int = 0


def take_turns(turns: Mapping[Contender, Callable[[], Turn]], *, runs: int) -> list[Result]:
    """Run each contender `runs` times, one after the other."""
    taken: dict[Contender, list[Turn]] = {contender: [] for contender in turns}
    for _ in range(runs):
        for contender, take_turn in turns.items():
            taken[contender].append(take_turn())
    return [_summarise(contender, each) for contender, each in taken.items()]


def find(results: Sequence[Result], contender: Contender) -> Result:
    """Return the result of a contender."""
    return next(result for result in results if result.contender == contender)


def _summarise(contender: Contender, turns: Sequence[Turn]) -> Result:
    times = tuple(turn.run.wall_s + turn.sync_s for turn in turns)
    return Result(
        contender,
        wall_s=statistics.median(turn.run.wall_s for turn in turns),
        durable_s=statistics.median(times),
        times=times,
        peak_bytes=max(turn.run.peak_bytes for turn in turns),
        disk_bytes=int(statistics.median(turn.disk_bytes for turn in turns)),
    )
