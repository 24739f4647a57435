"""Show with real runs of an engine that it serves a linear checkpoint as it serves the original."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from scripts.lib.engine_check.cases import (
    LARGE,
    Case,
    Group,
    baseline,
    judge,
    judge_verification,
    plan_groups,
)
from scripts.lib.engine_check.checkpoints import save_checkpoints
from scripts.lib.engine_check.engine_process import ENGINES, EngineProcess, Run
from scripts.lib.engine_check.engine_verify import judge_cost, run_verify
from scripts.lib.engine_check.large_checkpoint import large_sizes
from scripts.lib.engine_check.report import HEADS, Row, write_report
from scripts.lib.results import RESULTS, format_heading, format_row, say


def main() -> None:
    """Run every group that is named, write down what came of it, and exit with 1 for a failure."""
    parser = argparse.ArgumentParser(prog="scripts/check_engine", description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="all, if none is named")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    groups = {group.name: group for group in plan_groups(arguments.engine)}
    if unknown := set(arguments.groups) - set(groups):
        parser.error(f"no such group: {min(unknown)}; there are {', '.join(groups)}")
    failed = 0
    print("\n".join(format_heading(("group", *HEADS, "s"))), flush=True)
    with EngineProcess(arguments.engine) as engine:
        for name in arguments.groups or groups:
            rows = _check(engine, arguments.engine, groups[name])
            failed += sum(not row.passed for row in rows)
            write_report(arguments.output, arguments.engine, {name: rows})
    print(f"\n{arguments.engine}: " + (f"{failed} failed" if failed else "all as expected"))
    if failed:
        sys.exit(1)


def _check(engine: EngineProcess, engine_name: str, group: Group) -> list[Row]:
    """Start the engine with every case of a group, and print a table row for each."""
    with tempfile.TemporaryDirectory(prefix="engine-check-") as folder:
        work = Path(folder)
        save_checkpoints(group, work)
        if group.verifies:
            return _verify_all(engine_name, group, work)
        case = baseline(engine_name)
        run = engine.start(case, group.options, work)
        expected = run.answers
        if expected is None or expected["gradient"] == expected["checker"]:
            return [_show(group, case, run, "no answers, or the image changes none", passed=False)]
        rows = [_show(group, case, run, "answers, other ones for another image", passed=True)]
        for case in group.cases:
            run = engine.start(case, group.options, work)
            outcome, passed = judge(case, expected, run.answers, run.log)
            rows.append(_show(group, case, run, outcome, passed=passed))
    return rows


def _verify_all(engine_name: str, group: Group, work: Path) -> list[Row]:
    """Let `verify` start the engine with every case, and print a table row for each."""
    rows, first = [], None
    for case in group.cases:
        verified = run_verify(engine_name, work / case.checkpoint, case.env)
        first = first or verified
        found, passed = judge_verification(case, verified.outcome, verified.detail)
        if case.checkpoint == LARGE:
            cost, is_low = judge_cost(verified, first, large_sizes())
            found, passed = f"{found}; {cost}", passed and is_low
        run = Run(None, found, verified.seconds)
        rows.append(_show(group, case, run, found, passed=passed))
    return rows


def _show(group: Group, case: Case, run: Run, outcome: str, *, passed: bool) -> Row:
    """Print a table row, and the end of the log of a case that failed."""
    row = Row(case.name, case.expect, outcome, passed)
    print(format_row((group.name, *row.cells, f"{run.seconds:.0f}")), flush=True)
    if not passed:
        say(run.log[-3000:])
    return row


if __name__ == "__main__":
    main()
