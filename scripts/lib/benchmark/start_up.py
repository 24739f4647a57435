"""What a process takes before it does anything of its own; other figures are beyond that."""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.benchmark.findings import Findings, Row, Section, at_most, spread_cells
from scripts.lib.benchmark.processes import Run, run
from scripts.lib.benchmark.sources import write_source
from scripts.lib.benchmark.turns import CONV2LINEAR, Result

_PYTHON, _HELP = "python -c pass", "conv2linear --help"
_TORCH, _CHECK = "python -c 'import torch'", "import torch, equivalence check"
_COMMANDS = {
    _PYTHON: (sys.executable, "-c", "pass"),
    _HELP: (*CONV2LINEAR, "--help"),
    _TORCH: (sys.executable, "-c", "import torch"),
    _CHECK: (sys.executable, "-m", "scripts.lib.benchmark.check_alone"),
}


@dataclass(frozen=True)
class Baseline:
    """What start-up takes, and the equivalence check: of its process, and by itself."""

    python_s: float
    import_torch_s: float
    import_torch_bytes: int
    check_process_s: float

    def beyond_torch_s(self, result: Result) -> float:
        """Return the durable seconds of a contender, less `import torch` if it does that."""
        return result.durable_s - result.contender.imports_torch * self.import_torch_s

    def beyond_torch_bytes(self, result: Result) -> int:
        """Return the peak memory of a contender, less that of `import torch` if it does that."""
        return result.peak_bytes - result.contender.imports_torch * self.import_torch_bytes

    def cells(self, result: Result) -> Row:
        """Return the cells that tell what a contender took, beyond `import torch` too."""
        return {
            **spread_cells(result),
            "beyond_import_torch_s": self.beyond_torch_s(result),
            "peak_bytes": result.peak_bytes,
            "peak_beyond_import_torch_bytes": self.beyond_torch_bytes(result),
        }

    def overhead_s(self, result: Result) -> float:
        """Return the seconds of a `convert` beyond `import torch` and the check."""
        return result.durable_s - self.check_process_s


def measure_start_up(runs: int) -> tuple[Baseline, Findings]:
    """Measure start-up times in turns, the check by itself, and how processes end."""
    taken: dict[str, list[Run]] = {name: [] for name in _COMMANDS}
    for _ in range(2 * runs):
        for name, command in _COMMANDS.items():
            taken[name].append(run(command))
    median_s = {name: statistics.median(r.wall_s for r in runs) for name, runs in taken.items()}
    peak = {name: max(r.peak_bytes for r in runs) for name, runs in taken.items()}
    check_s = statistics.median(float(r.stdout) for r in taken[_CHECK])
    rows = [
        {
            "process": name,
            "median_s": median_s[name],
            "fastest_s": min(r.wall_s for r in taken[name]),
            "slowest_s": max(r.wall_s for r in taken[name]),
            "peak_bytes": peak[name],
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
    baseline = Baseline(median_s[_PYTHON], median_s[_TORCH], peak[_TORCH], median_s[_CHECK])
    end_rows = [{"command": name, "end_s": end_s} for name, end_s in ends.items()]
    sections = [
        Section("Start-up and check", note, rows),
        Section(
            "From the result to the end of the process",
            f"The slowest of {runs} runs each, with a checkpoint of 4 MB.",
            end_rows,
        ),
    ]
    return baseline, Findings(goals, sections)


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
