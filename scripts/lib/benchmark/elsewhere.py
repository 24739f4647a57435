"""Promises that other scripts measure, as they found them; and those that tests hold."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.lib.benchmark.findings import Findings, Goal

_ENGINES = ("vllm", "sglang")


def read_results(folder: Path) -> Findings:
    """Return what chaos and check_engine found last, with the version that they ran with."""
    return Findings([_kills(folder / "chaos.json"), *(_engine(folder, each) for each in _ENGINES)])


def _kills(path: Path) -> Goal:
    found = json.loads(path.read_text())
    (killed,) = (each for each in found["scenarios"] if each["scenario"] == "kill -9")
    violations = len(killed["violations"])
    version = found["machine"]["conv2linear"]
    return Goal(
        "kill -9 at random moments, nothing lost (`scripts/chaos`)",
        "200 runs, 0 violations",
        f"{killed['runs']} runs, {violations} violations (version {version})",
        killed["runs"] >= 200 and not violations,
    )


def _engine(folder: Path, engine: str) -> Goal:
    found = json.loads((folder / f"check_engine-{engine}.json").read_text())
    runs = [each for group in found["groups"].values() for each in group]
    as_expected = sum(each["passed"] for each in runs)
    machine = found["machine"]
    name = f"{engine}-cpu" if machine.get(f"{engine}-cpu") else engine
    return Goal(
        f"{name} {machine[name]} loads what it should (`scripts/check_engine {engine}`)",
        "all runs as expected",
        f"{as_expected} of {len(runs)} (version {machine['conv2linear']})",
        as_expected == len(runs),
    )
