"""Write the tallies down: as a page to read, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.lib.chaos.harness import Tally
from scripts.lib.results import describe_machine, format_table, format_versions, write_results

_PACKAGES = ("conv2linear", "torch", "safetensors", "huggingface_hub", "olah")


def write_report(
    folder: Path, *, command: str, seed: int, tallies: Sequence[Tally], file_system: str
) -> Path:
    """Write chaos.md and chaos.json into `folder`; returns the page."""
    machine = describe_machine(_PACKAGES) | {"file_system": file_system}
    document = {
        "command": command,
        "seed": seed,
        "machine": machine,
        "scenarios": [_as_dict(tally) for tally in tallies],
    }
    page = _page(command, machine, tallies)
    return write_results(folder, "chaos", document=document, page=page)


def _as_dict(tally: Tally) -> dict[str, Any]:
    return {
        "scenario": tally.scenario,
        "runs": tally.runs,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "violations": tally.violations,
        "skipped": tally.skipped,
    }


def _page(command: str, machine: dict[str, Any], tallies: Sequence[Tally]) -> list[str]:
    lines = [
        "# Chaos",
        "",
        f"Made by `{command}` on {machine['cores']} cores of {machine['cpu']}, "
        f"Linux {machine['kernel']}, {machine['file_system']}.",
        format_versions(machine, _PACKAGES),
        "",
        "After each run: OUT is absent, the old one or the new one, complete (every file's "
        "SHA-256); the source is what it was; nothing is left but OUT and one hidden folder; no "
        "traceback; and where a run can follow, it succeeds and leaves nothing beside OUT.",
        "",
        *format_table(
            ("scenario", "runs", "outcomes", "violations"),
            [(t.scenario, t.runs, _format_outcomes(t), len(t.violations)) for t in tallies],
        ),
    ]
    for tally in tallies:
        if tally.violations:
            lines += ["", f"## Violations: {tally.scenario}", ""]
            lines += [f"- {violation}" for violation in tally.violations]
    return lines


def _format_outcomes(tally: Tally) -> str:
    if tally.skipped:
        return f"skipped: {tally.skipped}"
    summed: Counter[str] = Counter()
    for outcome, count in tally.outcomes.items():
        summed[_without_job(outcome)] += count
    return ", ".join(f"{outcome} {count}" for outcome, count in sorted(summed.items()))


def _without_job(outcome: str) -> str:
    """Leave the command out of an outcome, which the JSON has in full."""
    return outcome.rpartition(": ")[2] if outcome.startswith(("convert", "restore")) else outcome
