"""What a process takes before it does anything of its own; the other figures are beyond that."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass

from scripts.lib.benchmark.contenders import Result
from scripts.lib.benchmark.processes import Run, run
from scripts.lib.benchmark.report import Section

CONV2LINEAR = (sys.executable, "-m", "conv2linear")
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
    help_s: float
    import_torch_s: float
    import_torch_bytes: int
    check_process_s: float
    check_s: float

    def beyond_torch_s(self, result: Result) -> float:
        """Return the durable seconds of a contender, less `import torch` if it does that."""
        return result.durable_s - result.contender.imports_torch * self.import_torch_s

    def beyond_torch_bytes(self, result: Result) -> int:
        """Return the peak memory of a contender, less that of `import torch` if it does that."""
        return result.peak_bytes - result.contender.imports_torch * self.import_torch_bytes

    def overhead_s(self, result: Result) -> float:
        """Return the seconds of a `convert` beyond `import torch` and the check."""
        return result.durable_s - self.check_process_s


def measure_baseline(runs: int) -> tuple[Baseline, Section]:
    """Measure start-up times, in turns, and the check by itself."""
    taken: dict[str, list[Run]] = {name: [] for name in _COMMANDS}
    for _ in range(2 * runs):
        for name, command in _COMMANDS.items():
            taken[name].append(run(command))
    median_s = {name: statistics.median(r.wall_s for r in runs) for name, runs in taken.items()}
    peak = {name: max(r.peak_bytes for r in runs) for name, runs in taken.items()}
    baseline = Baseline(
        python_s=median_s[_PYTHON],
        help_s=median_s[_HELP],
        import_torch_s=median_s[_TORCH],
        import_torch_bytes=peak[_TORCH],
        check_process_s=median_s[_CHECK],
        check_s=statistics.median(float(r.stdout) for r in taken[_CHECK]),
    )
    rows = [{"process": n, "median_s": median_s[n], "peak_bytes": peak[n]} for n in _COMMANDS]
    note = (
        f"Medians of {2 * runs} runs. The check itself, for a patch embedding of "
        f"1536 × 1176 in bf16 on the CPU, takes {baseline.check_s:.2f} s of its process."
    )
    return baseline, Section("Start-up and check", note, rows)
