"""Write the tallies down: as a page to read, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chaos_runs.laboratory import Tally

_PACKAGES = ("conv2linear", "torch", "safetensors", "huggingface_hub", "olah")


def write_report(
    folder: Path, *, command: str, seed: int, tallies: Sequence[Tally], disk: str
) -> Path:
    """Write chaos.md and chaos.json into `folder`; returns the page."""
    machine = {**_describe_machine(), "file_system": disk}
    document = {
        "command": command,
        "seed": seed,
        "machine": machine,
        "scenarios": [
            {
                "scenario": tally.scenario,
                "runs": tally.runs,
                "outcomes": dict(sorted(tally.outcomes.items())),
                "violations": tally.violations,
                "skipped": tally.skipped,
            }
            for tally in tallies
        ],
    }
    folder.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / "chaos.json").write_text(text + "\n")
    page = folder / "chaos.md"
    page.write_text("\n".join(_page(command, machine, tallies)) + "\n")
    return page


def _describe_machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _page(command: str, machine: dict[str, Any], tallies: Sequence[Tally]) -> list[str]:
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *_PACKAGES))
    lines = [
        "# Chaos",
        "",
        f"Made by `{command}` on {machine['cores']} cores of {machine['cpu']}, "
        f"Linux {machine['kernel']}, {machine['file_system']}.",
        f"{versions}.",
        "",
        "After each run: OUT is absent, the old one or the new one, whole (every file's SHA-256); "
        "the source is what it was; nothing but OUT and one hidden folder is there; no traceback; "
        "and where a run can follow, it succeeds and leaves nothing beside OUT.",
        "",
        "| scenario | runs | outcomes | violations |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {tally.scenario} | {tally.runs} | {_spell_outcomes(tally)} | {len(tally.violations)} |"
        for tally in tallies
    ]
    for tally in tallies:
        if tally.violations:
            lines += ["", f"## Violations: {tally.scenario}", ""]
            lines += [f"- {violation}" for violation in tally.violations]
    return lines


def _spell_outcomes(tally: Tally) -> str:
    if tally.skipped:
        return f"skipped: {tally.skipped}"
    summed: dict[str, int] = {}
    for outcome, count in tally.outcomes.items():
        summed[_without_job(outcome)] = summed.get(_without_job(outcome), 0) + count
    return ", ".join(f"{outcome} {count}" for outcome, count in sorted(summed.items()))


def _without_job(outcome: str) -> str:
    """Leave the command out of an outcome, which the JSON has in full."""
    return outcome.rpartition(": ")[2] if outcome.startswith(("convert", "restore")) else outcome
