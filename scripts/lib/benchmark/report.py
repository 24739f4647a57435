"""Write the report: as a page to read, and as JSON."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.lib.results import describe_machine, format_table, format_versions, write_results

Row = dict[str, Any]

_PACKAGES = ("conv2linear", "torch", "safetensors", "compressed-tensors", "typer", "rich")
_FORMATS: dict[str, Callable[[float], str]] = {
    "_s": lambda value: f"{value:.2f} s" if abs(value) >= 1 else f"{value * 1e3:.0f} ms",
    "_bytes": lambda value: f"{round(value / 1e6, 1) + 0.0:,.1f} MB",
    "_ratio": lambda value: f"{value:.2f} ×",
}


@dataclass(frozen=True)
class Goal:
    """A promise of the project: what it allows, and what was measured."""

    promise: str
    limit: str
    measured: str
    is_reached: bool


@dataclass(frozen=True)
class Section:
    """A table of the report; the keys of its rows end in their unit: `_s`, `_bytes`, `_ratio`."""

    title: str
    note: str
    rows: Sequence[Row] = field(default_factory=list)


def write_report(
    folder: Path, *, command: str, goals: Sequence[Goal], sections: Sequence[Section]
) -> Path:
    """Write benchmark.md and benchmark.json into `folder`; returns the page."""
    machine = describe_machine(_PACKAGES) | {"load_at_the_end": os.getloadavg()[0]}
    document = {
        "command": command,
        "machine": machine,
        "goals": [dataclasses.asdict(goal) for goal in goals],
        "sections": [dataclasses.asdict(section) for section in sections],
    }
    page = _page(command, machine, goals, sections)
    return write_results(folder, "benchmark", document=document, page=page)


def _page(
    command: str, machine: dict[str, Any], goals: Sequence[Goal], sections: Sequence[Section]
) -> list[str]:
    lines = [
        "# Benchmark",
        "",
        f"Made by `{command}` on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB of memory, Linux {machine['kernel']} "
        f"(load at the end {machine['load_at_the_end']:.1f}).",
        format_versions(machine, _PACKAGES),
        "",
        "Each time is wall clock of a process, the median of several that took turns with the "
        "others. *Until on disk* adds an fsync of every file for those that do not do it "
        "themselves; *beyond import torch* takes away what a process needs that only imports "
        "torch. Memory is the largest resident set (`ru_maxrss`), mapped files included.",
        "",
        "## Goals",
        "",
        *_table([dataclasses.asdict(goal) for goal in goals]),
    ]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.note]
        lines += ["", *_table(section.rows)] if section.rows else []
    return lines


def _table(rows: Sequence[Row]) -> list[str]:
    heads = [_format_head(key) for key in rows[0]]
    return format_table(heads, [[_format_cell(*cell) for cell in row.items()] for row in rows])


def _format_head(key: str) -> str:
    for suffix in _FORMATS:
        key = key.removesuffix(suffix)
    return key.removeprefix("is_").replace("_", " ")


def _format_cell(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    for suffix, format_value in _FORMATS.items():
        if key.endswith(suffix):
            return format_value(value)
    return str(value)
