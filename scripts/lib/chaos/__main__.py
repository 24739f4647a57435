"""Disturb convert and restore at random moments, and judge what is left behind each time."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from scripts.lib.chaos.harness import Harness, Tally, open_harness
from scripts.lib.chaos.poor_systems import kill_on_poor_disk, kill_while_exchanging
from scripts.lib.chaos.report import write_report
from scripts.lib.chaos.scenarios import (
    change_source,
    fill_disk,
    interrupt,
    kill,
    lock_disk,
    run_twice,
    stop_hub,
)
from scripts.lib.chaos.staged_states import kill_on_tight_disk, tamper_with_staging
from scripts.lib.results import BUILD, RESULTS, name_file_system, say

SCENARIOS: tuple[tuple[Callable[[Harness, int], Tally], float], ...] = (
    (kill, 1.0),  # and what share of the runs asked for it gets
    (interrupt, 0.3),
    (fill_disk, 0.15),
    (lock_disk, 0.15),
    (change_source, 0.3),
    (run_twice, 0.15),
    (stop_hub, 0.06),
    (kill_while_exchanging, 0.06),
    (tamper_with_staging, 0.07),
    (kill_on_tight_disk, 0.08),
    (kill_on_poor_disk, 0.05),
)


def main() -> None:
    """Run every scenario, write the report, and exit with 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="runs that are killed (200)")
    parser.add_argument("--seed", type=int, default=0, help="of all random moments (0)")
    parser.add_argument(
        "--workdir", type=Path, help="where to write what is disturbed", default=BUILD
    )
    parser.add_argument("--results", type=Path, help="where to write the report", default=RESULTS)
    arguments = parser.parse_args()
    arguments.workdir.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no mount and no Hub behind
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", dir=arguments.workdir) as folder,
        open_harness(Path(folder), seed=arguments.seed, with_hub=True) as harness,
    ):
        tallies = _run_all(harness, arguments.runs)
    page = write_report(
        arguments.results,
        command=f"scripts/chaos --runs {arguments.runs} --seed {arguments.seed}",
        seed=arguments.seed,
        tallies=tallies,
        file_system=name_file_system(arguments.workdir),
    )
    print(page.read_text())
    if any(tally.violations for tally in tallies):
        sys.exit(1)


def _run_all(harness: Harness, runs: int) -> list[Tally]:
    for job in harness.jobs:
        say(f"undisturbed, {job.name} takes {job.seconds:.2f} s")
    tallies = []
    for scenario, share in SCENARIOS:
        tally = scenario(harness, max(round(runs * share), 1))
        say(f"{tally.scenario}: {tally.runs} runs, {len(tally.violations)} violations")
        tallies.append(tally)
    return tallies


if __name__ == "__main__":
    main()
