"""Find out which tests reach what, plant each mutant, and see whether a test fails."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from scripts.lib.mutate.mutants import Mutant, draw_sample, find_mutants
from scripts.lib.mutate.project import Project
from scripts.lib.mutate.reached import (
    Baseline,
    Place,
    Recorder,
    TimedTest,
    instrument,
    read_tests,
)
from scripts.lib.mutate.runs import Job, Selection, limit_s, run_jobs
from scripts.lib.results import say

_PASSED, _NONE_FOUND = 0, 5  # exit codes of pytest
_FILES_PER_JOB = 8
_HOURS_S = 6 * 3600.0
LONGEST_S = 4.0  # of one test: what starts a process that loads a model takes longer
BUDGET_S = 45.0  # for the tests of one mutant in one place, by what they took without it
LEAST_S = 20.0  # what a test may take, whatever it took before


@dataclass(frozen=True)
class Verdict:
    """What came of a mutant: the test that caught it, or None; and how many could have."""

    mutant: Mutant
    caught_by: str | None
    tests: int


def draw(project: Project, *, count: int, seed: int) -> list[Mutant]:
    """Draw a sample of all mutants of a project."""
    found = [
        mutant
        for module in project.modules()
        for mutant in find_mutants(module, (project.root / module).read_bytes())
    ]
    return draw_sample(found, count=count, seed=seed)


def measure_baseline(
    project: Project, folder: Path, *, workers: int, longest_s: float = LONGEST_S
) -> Baseline:
    """Run all tests once, each for `longest_s` at most, and note what each reaches."""
    modules, places = project.modules(), list[Place]()

    def prepare(number: int) -> Callable[[Path], Sequence[object]]:
        def instrument_once(folder: Path) -> Sequence[object]:
            notes = folder / "notes"
            if not notes.exists():
                places[:] = instrument(folder / "copy", modules, notes=notes)
            package = Path(modules[0]).parts[0]
            return [Recorder(package, notes, number=number, longest_s=longest_s)]

        return instrument_once

    files, options = project.test_files(), ["--hypothesis-seed=0"]
    jobs = [
        Job(files[at : at + _FILES_PER_JOB], options, _HOURS_S, prepare(at), _report)
        for at in range(0, len(files), _FILES_PER_JOB)
    ]
    folders = [folder / f"reached-{number}" for number in range(workers)]
    run_jobs(project, jobs, folders=folders)
    parts = [read_tests(each / "notes", places) for each in folders if (each / "notes").exists()]
    return Baseline(
        passing=[test for part in parts for test in part.passing],
        failing=[name for part in parts for name in part.failing],
        cut_off=[name for part in parts for name in part.cut_off],
        longest_s=longest_s,
    )


def _report(folder: Path, code: int) -> None:
    say(f"{folder.name}: pytest ends with {code}")
    if code not in (_PASSED, 1, _NONE_FOUND):
        raise RuntimeError((folder / "printed.txt").read_text())


def judge(
    project: Project,
    sample: Sequence[Mutant],
    baseline: Baseline,
    folder: Path,
    *,
    workers: int,
    least_s: float = LEAST_S,
) -> list[Verdict]:
    """Plant each mutant of the sample, and run the tests that reach it until one fails.

    A test hangs that takes many times what it took before, and more than `least_s`.
    """
    verdicts: dict[Mutant, Verdict] = {}

    def jobs() -> Iterator[Job]:
        for mutant in sample:
            tests = choose_tests(project, mutant, baseline.passing)
            if tests:
                yield _plan(mutant, tests, least_s=least_s, done=note)
            else:
                note(Verdict(mutant, None, 0))

    def note(verdict: Verdict) -> None:
        verdicts[verdict.mutant] = verdict
        place = f"{verdict.mutant.module}:{verdict.mutant.line}"
        result = f"caught by {verdict.caught_by}" if verdict.caught_by else "SURVIVES"
        say(f"{len(verdicts)}/{len(sample)} {place}: {verdict.mutant.after}: {result}")

    run_jobs(project, jobs(), folders=[folder / f"mutant-{number}" for number in range(workers)])
    return [verdicts[mutant] for mutant in sample]


def choose_tests(
    project: Project, mutant: Mutant, tests: Sequence[TimedTest], *, budget_s: float = BUDGET_S
) -> list[TimedTest]:
    """Return tests that reach a mutant: those of its own file, of its folder, and so on.

    Of each of these as many as `budget_s` is enough for: the fastest of each file in turns. What
    runs only while a module is imported is reached by all that reach anything in the module, and
    by all that come first: a table has nothing else that is reached.
    """
    first = project.tests_of(mutant.module)
    if mutant.statement is None:
        reaching = [
            t
            for t in tests
            if t.file.startswith(first) or any(place[0] == mutant.module for place in t.places)
        ]
    else:
        reaching = [t for t in tests if (mutant.module, mutant.statement) in t.places]
    groups: list[list[TimedTest]] = [[] for _ in (*first, "others")]
    for test in reaching:
        near = (number for number, name in enumerate(first) if test.file.startswith(name))
        groups[next(near, len(first))].append(test)
    return [test for group in groups for test in _take_turns(group, budget_s)]


def _take_turns(tests: Sequence[TimedTest], budget_s: float) -> list[TimedTest]:
    """Return the tests that the time is enough for, at least one, sorted by file and by time."""
    turns: Counter[str] = Counter()
    ranked = []
    for test in sorted(tests, key=lambda test: test.seconds):
        ranked.append((turns[test.file], test.seconds, test))
        turns[test.file] += 1
    chosen: list[TimedTest] = []
    left_s = budget_s
    for _, seconds, test in sorted(ranked, key=lambda each: each[:2]):
        if seconds <= left_s or not chosen:
            chosen.append(test)
            left_s -= seconds
    return sorted(chosen, key=lambda test: (test.file, test.seconds))


def _plan(
    mutant: Mutant,
    tests: Sequence[TimedTest],
    *,
    least_s: float,
    done: Callable[[Verdict], None],
) -> Job:
    def prepare(folder: Path) -> Sequence[object]:
        path = folder / "copy" / mutant.module
        path.with_suffix(".original").write_bytes(path.read_bytes())
        path.write_bytes(mutant.plant(path.read_bytes()))
        limits_s = {test.name: limit_s(test.seconds, least_s=least_s) for test in tests}
        return [Selection(limits_s, caught=folder / "caught.txt")]

    def finish(folder: Path, code: int) -> None:
        path = folder / "copy" / mutant.module
        path.with_suffix(".original").replace(path)
        if code == _NONE_FOUND:
            raise RuntimeError((folder / "printed.txt").read_text())
        caught = folder / "caught.txt"
        by = caught.read_text() if caught.exists() else "the import of the tests"
        done(Verdict(mutant, None if code == _PASSED else by, len(tests)))

    whole_s = limit_s(sum(test.seconds for test in tests), least_s=10 * least_s)
    files = list(dict.fromkeys(test.file for test in tests))
    return Job(files, ["-x", "--hypothesis-seed=0"], whole_s, prepare, finish)


def load_or_measure(
    project: Project, folder: Path, *, kept: Path, workers: int, longest_s: float = LONGEST_S
) -> Baseline:
    """Return the baseline, from the file `kept` where that is of the same code and tests."""
    state = f"{_hash_parts(project)} {longest_s:g}"
    if kept.exists() and (document := json.loads(kept.read_text()))["state"] == state:
        return _read_baseline(document)
    say("running all tests once, to see which of them reach what ...")
    baseline = measure_baseline(project, folder, workers=workers, longest_s=longest_s)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"state": state} | _as_document(baseline)))
    return baseline


def _hash_parts(project: Project) -> str:
    digest = sha256(repr((project.targets, project.tests)).encode())
    for part in project.parts:
        root = project.root / part
        paths = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        for path in paths:
            digest.update(f"{path.relative_to(project.root)}\0".encode())
            digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _as_document(baseline: Baseline) -> dict[str, object]:
    numbers: dict[Place, int] = {}
    tests = [
        (test.name, test.seconds, [numbers.setdefault(p, len(numbers)) for p in test.places])
        for test in baseline.passing
    ]
    return {
        "places": list(numbers),
        "passing": tests,
        "failing": list(baseline.failing),
        "cut_off": list(baseline.cut_off),
        "longest_s": baseline.longest_s,
    }


def _read_baseline(document: dict[str, Any]) -> Baseline:
    places = [(str(module), int(line)) for module, line in document["places"]]
    passing = [
        TimedTest(name, seconds, frozenset(places[number] for number in numbers))
        for name, seconds, numbers in document["passing"]
    ]
    return Baseline(passing, document["failing"], document["cut_off"], document["longest_s"])
