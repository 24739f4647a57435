"""Measure `convert` against other ways to the same result, and compare it with its goals."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.lib.benchmark.baseline import Baseline, measure_baseline
from scripts.lib.benchmark.contenders import CONVERT, HARDLINK, Result
from scripts.lib.benchmark.disks import NoXfsError, mounted_xfs
from scripts.lib.benchmark.goals import Measured, check_goals
from scripts.lib.benchmark.report import Section, write_report
from scripts.lib.benchmark.sections import (
    FULL,
    QUICK,
    Scale,
    measure_cold_copying,
    measure_copying,
    measure_many_tensors,
    measure_reflinks,
    measure_shard_counts,
)
from scripts.lib.results import BUILD, RESULTS, say


def main() -> None:
    """Measure everything and write the report."""
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs")
    parser.add_argument(
        "--workdir", type=Path, help="where to write what is measured", default=BUILD
    )
    parser.add_argument("--results", type=Path, help="where to write the report", default=RESULTS)
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    workdir: Path = arguments.workdir.resolve()
    workdir.mkdir(exist_ok=True)
    needed = max(8 * scale.shard_bytes, 46 * scale.constant_shard_bytes) * 5 // 2
    if shutil.disk_usage(workdir).free < needed:
        parser.error(f"{workdir} has less than {needed / 1e9:.0f} GB free: see --workdir")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no mount behind
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=workdir) as folder:
        try:
            measured, sections = _measure(Path(folder), scale)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error.output}{error}")
    page = write_report(
        arguments.results,
        command="scripts/benchmark --quick" if arguments.quick else "scripts/benchmark",
        goals=check_goals(measured),
        sections=sections,
    )
    print(page.read_text())
    say(f"written to {os.path.relpath(page)} and {page.stem}.json")


def _measure(workdir: Path, scale: Scale) -> tuple[Measured, list[Section]]:
    say("start-up and check")
    baseline, start_up = measure_baseline(scale.runs)
    say("copying")
    copying, copied = measure_copying(workdir, scale, baseline)
    sections = [start_up, copying]
    if scale is FULL:
        say("copying from a cold source")
        sections.append(measure_cold_copying(workdir, scale, baseline))
    linking, reflinked, counted = _measure_links(workdir, scale, baseline)
    say("100,000 tensors")
    many, inspect_s = measure_many_tensors(workdir, scale, baseline)
    measured = Measured(baseline, inspect_s, copied, reflinked, counted)
    return measured, [*sections, *linking, many]


def _measure_links(
    workdir: Path, scale: Scale, baseline: Baseline
) -> tuple[list[Section], list[Result], list[Result]]:
    """Measure what copies no weight: on XFS where it can be mounted, with hard links elsewhere.

    Returns the sections, the results on XFS, and those by number of shards.
    """
    try:
        with mounted_xfs(workdir, size_bytes=scale.xfs_bytes) as xfs:
            say("reflinks")
            section, reflinked = measure_reflinks(xfs, scale, baseline)
            say("1 to 46 shards, reflinks and hard links")
            by_count, counted = measure_shard_counts(
                xfs, scale, baseline, contenders=(CONVERT, HARDLINK)
            )
            return [section, *by_count], reflinked, counted
    except NoXfsError as reason:
        say(f"reflinks skipped: {reason}")
        say("1 to 46 shards, hard links")
        by_count, counted = measure_shard_counts(workdir, scale, baseline, contenders=(HARDLINK,))
        return [Section("Reflinks", f"Skipped: {reason}."), *by_count], [], counted


if __name__ == "__main__":
    main()
