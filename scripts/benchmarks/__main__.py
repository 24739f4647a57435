"""Measure `convert` against other ways to the same result, and hold it to its goals."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from checkpoints import PATCH_EMBEDDING_BYTES
from contenders import COMPRESSED_TENSORS, CONVERT, COPY, HARDLINK, Result
from disks import NoXfsError, mounted_xfs
from report import Goal, write_report
from sections import (
    FULL,
    QUICK,
    Baseline,
    Scale,
    Section,
    measure_baseline,
    measure_cold_copying,
    measure_copying,
    measure_many_tensors,
    measure_reflinks,
    measure_shard_counts,
)

_RESULTS = Path(__file__).parents[1] / "results"
_BUILD = Path(__file__).parents[2] / "build"  # on a disk, and not in git
_MB = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs")
    parser.add_argument(
        "--workdir", type=Path, help="where to write what is measured", default=_BUILD
    )
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    workdir: Path = arguments.workdir
    workdir.mkdir(exist_ok=True)
    needed = max(8 * scale.shard_bytes, 46 * scale.constant_shard_bytes) * 5 // 2
    if shutil.disk_usage(workdir).free < needed:
        parser.error(f"{workdir} has less than {needed / 1e9:.0f} GB free: see --workdir")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no mount behind
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=workdir) as folder:
        try:
            goals, sections = _measure(Path(folder), scale)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error.output}{error}")
    command = "scripts/benchmark --quick" if arguments.quick else "scripts/benchmark"
    page = write_report(_RESULTS, command=command, goals=goals, sections=sections)
    print(page.read_text())
    _say(f"written to {os.path.relpath(page)} and {page.stem}.json")


def _measure(workdir: Path, scale: Scale) -> tuple[list[Goal], list[Section]]:
    _say("start-up and check")
    baseline, section = measure_baseline(scale.runs)
    sections = [section]
    _say("copying")
    section, copied = measure_copying(workdir, scale, baseline)
    sections.append(section)
    if scale is FULL:
        _say("copying from a cold source")
        sections.append(measure_cold_copying(workdir, scale, baseline))
    reflinked: list[Result] = []
    try:
        with mounted_xfs(workdir, size_bytes=scale.xfs_bytes) as xfs:
            _say("reflinks")
            section, reflinked = measure_reflinks(xfs, scale, baseline)
            _say("1 to 46 shards, reflinks and hard links")
            by_count, counted = measure_shard_counts(
                xfs, scale, baseline, contenders=(CONVERT, HARDLINK)
            )
            sections += [section, *by_count]
    except NoXfsError as reason:
        sections.append(Section("Reflinks", f"Skipped: {reason}."))
        _say(f"reflinks skipped: {reason}")
        _say("1 to 46 shards, hard links")
        by_count, counted = measure_shard_counts(workdir, scale, baseline, contenders=(HARDLINK,))
        sections += by_count
    _say("100,000 tensors")
    section, inspect_s = measure_many_tensors(workdir, scale, baseline)
    sections.append(section)
    goals = [
        *_start_goals(baseline, inspect_s),
        *_copy_goals(baseline, copied),
        *_link_goals(baseline, copied, reflinked, counted),
        _memory_goal(baseline, [*copied, *reflinked, *counted]),
    ]
    return goals, sections


def _start_goals(baseline: Baseline, inspect_s: float) -> list[Goal]:
    help_s, check_s = baseline.help_s - baseline.python_s, baseline.check_s
    return [
        Goal("`--help` over bare Python", "150 ms", f"{help_s * 1e3:.0f} ms", help_s <= 0.15),
        Goal(
            "`inspect`, 100,000 tensors in 46 shards", "1 s", f"{inspect_s:.2f} s", inspect_s <= 1
        ),
        Goal("check, 1536 × 1176 on the CPU", "3 s", f"{check_s:.2f} s", check_s <= 3),
    ]


def _copy_goals(baseline: Baseline, copied: list[Result]) -> list[Goal]:
    by_name = {result.contender.name: result for result in copied}
    seconds = {name: baseline.beyond_torch_s(result) for name, result in by_name.items()}
    memory = {name: baseline.beyond_torch_bytes(result) for name, result in by_name.items()}
    of_copy = seconds[CONVERT.name] / seconds[COPY.name]
    copying = seconds[COMPRESSED_TENSORS.name] / seconds[CONVERT.name]
    linking = seconds[COMPRESSED_TENSORS.name] / seconds[HARDLINK.name]
    less = memory[COMPRESSED_TENSORS.name] / memory[CONVERT.name]
    return [
        Goal("copying, of `cp -r` and fsync", "1.1 ×", f"{of_copy:.2f} ×", of_copy <= 1.1),
        Goal("copying, faster than compressed-tensors", "3 ×", f"{copying:.1f} ×", copying >= 3),
        Goal("`--hardlink`, faster than it", "20 ×", f"{linking:.1f} ×", linking >= 20),
        Goal("less memory than it", "10 ×", f"{less:.1f} ×", less >= 10),
    ]


def _link_goals(
    baseline: Baseline, copied: list[Result], reflinked: list[Result], counted: list[Result]
) -> list[Goal]:
    linked = [result for result in copied if result.contender is HARDLINK]
    linked += [result for result in (*reflinked, *counted) if result.contender is not COPY]
    longest_s = max(baseline.overhead_s(result) for result in linked)
    kinds = (CONVERT, HARDLINK) if reflinked else (HARDLINK,)
    spread_s = max(_spread_s(counted, contender.name) for contender in kinds)
    goals = [
        Goal(
            "reflink or `--hardlink`, beyond import torch and check, at most",
            "1 s",
            f"{longest_s:.2f} s",
            longest_s <= 1,
        ),
        Goal(
            "the same, most minus least over 1 to 46 shards of any size",
            "0.5 s",
            f"{spread_s:.2f} s",
            spread_s <= 0.5,
        ),
    ]
    disk = [result.disk_bytes for result in reflinked if result.contender is not COPY]
    if disk:
        most = max(disk) / _MB
        goals.append(Goal("disk that it takes", "10 MB", f"{most:.1f} MB", most <= 10))
    return goals


def _spread_s(results: list[Result], name: str) -> float:
    times = [result.durable_s for result in results if result.contender.name == name]
    return max(times) - min(times)


def _memory_goal(baseline: Baseline, results: list[Result]) -> Goal:
    limit = 64 * _MB + 2 * PATCH_EMBEDDING_BYTES
    converted = [result for result in results if result.contender in (CONVERT, HARDLINK)]
    most = max(baseline.beyond_torch_bytes(result) for result in converted)
    return Goal(
        "peak memory beyond import torch, any shard size",
        f"{limit / _MB:.0f} MB",
        f"{most / _MB:.0f} MB",
        most <= limit,
    )


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
