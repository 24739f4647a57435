"""Write what a script found into `scripts/results/`: as a page to read, and as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from conv2linear.parallel import usable_cpus

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"  # on a disk, and not in git
RESULTS = ROOT / "scripts" / "results"


def say(text: str) -> None:
    """Tell the user what a script is doing; stdout is for its results."""
    print(text, file=sys.stderr, flush=True)


def describe_machine(packages: Sequence[str]) -> dict[str, Any]:
    """Name the machine, its Python, and the versions of packages; None for one that is missing."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cpus(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
    }


def format_versions(machine: Mapping[str, Any], packages: Sequence[str]) -> str:
    """Return the versions of Python and of the packages that are installed, as a sentence."""
    names = [name for name in ("python", *packages) if machine[name]]
    return ", ".join(f"{name} {machine[name]}" for name in names) + "."


def name_file_system(folder: Path) -> str:
    """Return the type of the file system that `folder` is on."""
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def format_row(cells: Sequence[object]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def format_heading(heads: Sequence[str]) -> list[str]:
    """Return the first two lines of a Markdown table."""
    return [format_row(heads), "|" + "---|" * len(heads)]


def format_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [*format_heading(heads), *map(format_row, rows)]


def format_rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table; the keys of its rows end in their unit.

    `_s` are seconds, `_bytes` bytes and `_ratio` how many times as much; a key without is text.
    """
    heads = [_format_head(key) for key in rows[0]]
    return format_table(heads, [[_format_cell(*cell) for cell in row.items()] for row in rows])


def _format_head(key: str) -> str:
    for suffix in _FORMATS:
        key = key.removesuffix(suffix)
    return key.replace("_", " ")


def _format_cell(key: str, value: Any) -> str:
    for suffix, format_value in _FORMATS.items():
        if key.endswith(suffix):
            return "" if value is None else format_value(value)
    return str(value)


def _format_megabytes(size_bytes: float) -> str:
    decimals = 1 if abs(size_bytes) >= 1e6 else 2
    return f"{round(size_bytes / 1e6, decimals) + 0.0:,.{decimals}f} MB"


_FORMATS: dict[str, Callable[[float], str]] = {
    "_s": lambda value: f"{value:.2f} s" if abs(value) >= 1 else f"{value * 1e3:.0f} ms",
    "_bytes": _format_megabytes,
    "_ratio": lambda value: f"{value:.2f} ×",
}


def write_results(
    folder: Path, name: str, *, document: Mapping[str, Any], page: Sequence[str]
) -> Path:
    """Write `name`.json and `name`.md into `folder`; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n")
    path = folder / f"{name}.md"
    path.write_text("\n".join(page) + "\n")
    return path


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
