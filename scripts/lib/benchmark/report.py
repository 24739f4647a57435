"""Write the report: as a page to read, as JSON, and as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.lib.benchmark.findings import Findings, Goal
from scripts.lib.benchmark.load import Load
from scripts.lib.benchmark.picture import draw
from scripts.lib.results import (
    describe_machine,
    format_rows,
    format_table,
    format_versions,
    write_results,
)

_PACKAGES = (
    "conv2linear",
    "torch",
    "safetensors",
    "huggingface_hub",
    "hf_xet",
    "compressed-tensors",
    "typer",
    "rich",
)
_VERDICTS = {True: "yes", False: "**no**", None: "not measured"}


def write_report(folder: Path, *, command: str, findings: Findings, load: Load) -> Path:
    """Write benchmark.md, .json, .svg and .png into `folder`; returns the page."""
    machine = describe_machine(_PACKAGES)
    document = {
        "command": command,
        "machine": machine,
        "load": dataclasses.asdict(load) | {"is_quiet": load.is_quiet},
        "goals": [dataclasses.asdict(goal) for goal in findings.goals],
        "sections": [dataclasses.asdict(section) for section in findings.sections],
        "bars": [dataclasses.asdict(bar) for bar in findings.bars],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("svg", "png"):
        draw(findings.bars, folder / f"benchmark.{suffix}", title=_title(machine, load))
    page = _page(command, machine, findings, load)
    return write_results(folder, "benchmark", document=document, page=page)


def _title(machine: dict[str, Any], load: Load) -> str:
    return f"{machine['cores']} cores of {machine['cpu']}, {load.describe()}"


def _page(command: str, machine: dict[str, Any], findings: Findings, load: Load) -> list[str]:
    lines = [
        "# Benchmark",
        "",
        f"Made by `{command}` on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB of memory, Linux {machine['kernel']}; "
        f"{load.describe()}.",
        format_versions(machine, _PACKAGES),
        "",
        "Each time is wall clock of a process, the median of several that took turns with the "
        "others. *Until on disk* adds an fsync of every file for those that do not do it "
        "themselves; *beyond import torch* takes away what a process took in the same turns "
        "that only imports torch; *beyond import torch and check* takes away the check too, and is "
        "that of the fastest turns. Memory is the largest resident set (`ru_maxrss`), mapped files "
        "included.",
        "",
        "![Time of each way, with the fastest and the slowest run](benchmark.svg)",
        "",
        "## Goals",
        "",
        *_goal_table(findings.goals),
    ]
    for section in findings.sections:
        lines += ["", f"## {section.title}", "", section.note]
        lines += ["", *format_rows(section.rows)] if section.rows else []
    return lines


def _goal_table(goals: Sequence[Goal]) -> list[str]:
    rows = [(goal.promise, goal.limit, goal.measured, _VERDICTS[goal.is_reached]) for goal in goals]
    return format_table(("promise", "limit", "measured", "reached"), rows)
