"""Write the report: as a page to read, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sections import Row, Section

_PACKAGES = ("conv2linear", "torch", "safetensors", "compressed-tensors", "typer", "rich")
_SPELLINGS: dict[str, Callable[[float], str]] = {
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


def write_report(
    folder: Path, *, command: str, goals: Sequence[Goal], sections: Sequence[Section]
) -> Path:
    """Write benchmark.md and benchmark.json into `folder`; returns the page."""
    machine = describe_machine()
    folder.mkdir(exist_ok=True)
    document = {
        "command": command,
        "machine": machine,
        "goals": [dataclasses.asdict(goal) for goal in goals],
        "sections": [dataclasses.asdict(section) for section in sections],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / "benchmark.json").write_text(text + "\n")
    page = folder / "benchmark.md"
    page.write_text("\n".join(_page(command, machine, goals, sections)) + "\n")
    return page


def describe_machine() -> dict[str, Any]:
    """Name the machine, and the versions of what was measured on it."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_at_the_end": os.getloadavg()[0],
        **{name: version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _page(
    command: str, machine: dict[str, Any], goals: Sequence[Goal], sections: Sequence[Section]
) -> list[str]:
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *_PACKAGES))
    lines = [
        "# Benchmark",
        "",
        f"Made by `{command}` on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB of memory, Linux {machine['kernel']} "
        f"(load at the end {machine['load_at_the_end']:.1f}).",
        f"{versions}.",
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
    heads = [_spell_head(key) for key in rows[0]]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(_spell(*cell) for cell in row.items()) + " |" for row in rows]


def _spell_head(key: str) -> str:
    for suffix in _SPELLINGS:
        key = key.removesuffix(suffix)
    return key.removeprefix("is_").replace("_", " ")


def _spell(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    for suffix, spell in _SPELLINGS.items():
        if key.endswith(suffix):
            return spell(value)
    return str(value)
