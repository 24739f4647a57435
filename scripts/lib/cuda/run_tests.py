"""Run all tests marked `cuda` in one process, and count what came of each file."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from scripts.lib.cuda.processes import Runner
from scripts.lib.results import ROOT

_OWN_PACKAGES = ("conv2linear", "tests", "scripts")
_MISSING = re.compile(r"No module named '(?P<package>\w+)")
_TIMEOUT_S = 240


@dataclass(frozen=True)
class FileOutcome:
    """What came of the CUDA tests of a file; `left_out` says why they did not run."""

    file: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    left_out: str | None = None


def find_test_files() -> list[Path]:
    """Return the test files of the repository that have tests for a CUDA device."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    marks = ("pytest.mark.cuda", "@each_device")
    return [path for path in files if any(mark in path.read_text() for mark in marks)]


def run_tests(
    paths: Sequence[Path], runner: Runner, *, stand_in: str | None, root: Path = ROOT
) -> list[FileOutcome]:
    """Run the CUDA tests of files below `root`; `stand_in` names what takes CUDA's place.

    A file that needs a package which is not installed is left out. Where pytest itself does not
    get to an end, every file has failed.
    """
    outcomes = {name: FileOutcome(name) for name in (os.path.relpath(p, root) for p in paths)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(root), "-q", "-m", "cuda"]
        options += ["-p", "no:cacheprovider", "--continue-on-collection-errors", "--durations=10"]
        options += ["-o", "junit_family=xunit1", f"--junitxml={report}"]
        runner.run(
            "tests",
            "pytest",
            *options,
            *paths,
            timeout_s=_TIMEOUT_S,
            variables={"CUDA_STAND_IN": stand_in} if stand_in else {},
        )
        if not report.exists():
            return [replace(outcome, failed=1) for outcome in outcomes.values()]
        for case in ElementTree.parse(report).iter("testcase"):
            name = case.get("file", "")
            outcomes[name] = _count(outcomes[name], case)
    return list(outcomes.values())


def _count(outcome: FileOutcome, case: ElementTree.Element) -> FileOutcome:
    if case.find("skipped") is not None:
        return replace(outcome, skipped=outcome.skipped + 1)
    error = case.find("error")
    if error is None and case.find("failure") is None:
        return replace(outcome, passed=outcome.passed + 1)
    missing = None if error is None else _MISSING.search(error.text or "")
    if missing and missing["package"] not in _OWN_PACKAGES:
        return replace(outcome, left_out=f"{missing['package']} is not installed")
    return replace(outcome, failed=outcome.failed + 1)
