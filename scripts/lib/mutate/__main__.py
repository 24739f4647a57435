"""Plant small faults in a copy of the code, and see which of them the tests catch."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import tempfile
from pathlib import Path

from scripts.lib.mutate.measure import LONGEST_S, draw, judge, load_or_measure
from scripts.lib.mutate.project import CONV2LINEAR
from scripts.lib.mutate.report import is_enough, read_reasons, write_report
from scripts.lib.mutate.runs import preload
from scripts.lib.results import BUILD, RESULTS


def main() -> None:
    """Draw mutants, judge them, write the report; exit with 1 where too few are caught."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("targets", nargs="*", help="folders to mutate (those named in project.py)")
    parser.add_argument("--runs", type=int, default=100, help="mutants to plant (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of mutants (0)")
    parser.add_argument("--tests", nargs="+", help="the tests to judge by (all)")
    parser.add_argument(
        "--longest",
        type=float,
        default=LONGEST_S,
        metavar="S",
        help=f"judge by no test that takes longer ({LONGEST_S:g} s)",
    )
    parser.add_argument("--workers", type=int, default=2, help="tests to run at a time (2)")
    parser.add_argument("--results", type=Path, help="where to write the report", default=RESULTS)
    arguments = parser.parse_args()
    project = CONV2LINEAR
    if arguments.targets:
        project = dataclasses.replace(project, targets=tuple(arguments.targets))
    if arguments.tests:
        project = dataclasses.replace(project, tests=tuple(arguments.tests))
    kept = BUILD / "mutate" / "baseline.json"
    preload(project)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no copies behind
    with tempfile.TemporaryDirectory(prefix="mutate-") as temporary:
        folder = Path(temporary)
        baseline = load_or_measure(
            project,
            folder,
            kept=kept,
            workers=arguments.workers,
            longest_s=arguments.longest,
        )
        sample = draw(project, count=arguments.runs, seed=arguments.seed)
        verdicts = judge(project, sample, baseline, folder, workers=arguments.workers)
    reasons = read_reasons()
    page = write_report(
        arguments.results,
        command=" ".join(["scripts/mutate", *sys.argv[1:]]),
        verdicts=verdicts,
        baseline=baseline,
        reasons=reasons,
    )
    print(page.read_text())
    if not is_enough(verdicts, reasons):
        sys.exit(1)


if __name__ == "__main__":
    main()
