"""What a process takes before it does anything of its own, and after its result is out."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from scripts.lib.benchmark.beyond import CHECK, IMPORT_TORCH
from scripts.lib.benchmark.findings import Findings, Section, at_most
from scripts.lib.benchmark.processes import Run, run
from scripts.lib.benchmark.sources import write_source
from scripts.lib.benchmark.turns import CONV2LINEAR

_PYTHON, _HELP = "python -c pass", "conv2linear --help"
_COMMANDS = {
    _PYTHON: (sys.executable, "-c", "pass"),
    _HELP: (*CONV2LINEAR, "--help"),
    IMPORT_TORCH.name: IMPORT_TORCH.command,
    CHECK.name: CHECK.command,
}


def measure_start_up(runs: int) -> Findings:
    """Measure start-up times in turns, the check by itself, and how processes end."""
    taken: dict[str, list[Run]] = {name: [] for name in _COMMANDS}
    for _ in range(2 * runs):
        for name, command in _COMMANDS.items():
            taken[name].append(run(command))
    median_s = {name: statistics.median(r.wall_s for r in runs) for name, runs in taken.items()}
    check_s = statistics.median(float(r.stdout) for r in taken[CHECK.name])
    rows = [
        {
            "process": name,
            "median_s": median_s[name],
            "fastest_s": min(r.wall_s for r in taken[name]),
            "slowest_s": max(r.wall_s for r in taken[name]),
            "peak_bytes": max(r.peak_bytes for r in taken[name]),
        }
        for name in _COMMANDS
    ]
    note = (
        f"Medians of {2 * runs} runs. The check itself, for a patch embedding of "
        f"1536 × 1176 in bf16 on the CPU, takes {check_s:.2f} s of its process."
    )
    ends = _measure_ends(runs)
    ends_s = max(ends.values())
    help_ms = (median_s[_HELP] - median_s[_PYTHON]) * 1e3
    goals = [
        at_most("`--help` over bare Python", 150, help_ms, unit="ms"),
        at_most("check, 1536 × 1176 on the CPU", 3, check_s, unit="s"),
        at_most("a process ends after its result is out, slowest", 0.1, ends_s, unit="s"),
    ]
    end_rows = [{"command": name, "end_s": end_s} for name, end_s in ends.items()]
    sections = [
        Section("Start-up and check", note, rows),
        Section(
            "From the result to the end of the process",
            f"The slowest of {runs} runs each, with a checkpoint of 4 MB.",
            end_rows,
        ),
    ]
    return Findings(goals, sections)


def _measure_ends(runs: int) -> dict[str, float]:
    """Return, for each command, the longest time from its last output to the end."""
    ends: dict[str, float] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            source = str(write_source(folder / "source", shards=2))
            out, restored = str(folder / "out"), str(folder / "restored")
            for command in (
                ("inspect", source),
                ("convert", source, out, "--device", "cpu"),
                ("verify", out, "--checksums", "--device", "cpu"),
                ("restore", out, restored),
            ):
                end_s = run([*CONV2LINEAR, *command]).end_s
                ends[command[0]] = max(ends.get(command[0], 0.0), end_s)
    return ends
