"""Disturb convert and restore at random moments, and judge what is left behind each time."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from chaos_runs.laboratory import opened
from chaos_runs.report import write_report
from chaos_runs.scenarios import SCENARIOS

_ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="runs that are killed (200)")
    parser.add_argument("--seed", type=int, default=0, help="of all random moments (0)")
    parser.add_argument(
        "--workdir", type=Path, help="where to write what is disturbed", default=_ROOT / "build"
    )
    arguments = parser.parse_args()
    arguments.workdir.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no mount and no Hub behind
    tallies = []
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", dir=arguments.workdir) as folder,
        opened(Path(folder), seed=arguments.seed, with_hub=True) as laboratory,
    ):
        for job in laboratory.jobs:
            _say(f"undisturbed, {job.name} takes {job.seconds:.2f} s")
        for scenario, share in SCENARIOS:
            tallies.append(scenario(laboratory, max(round(arguments.runs * share), 1)))
            tally = tallies[-1]
            _say(f"{tally.scenario}: {tally.runs} runs, {len(tally.violations)} violations")
    page = write_report(
        _ROOT / "scripts" / "results",
        command=f"scripts/chaos --runs {arguments.runs} --seed {arguments.seed}",
        seed=arguments.seed,
        tallies=tallies,
        disk=_name_file_system(arguments.workdir),
    )
    print(page.read_text())
    if any(tally.violations for tally in tallies):
        sys.exit(1)


def _name_file_system(folder: Path) -> str:
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
