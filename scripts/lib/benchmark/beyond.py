"""What a contender takes beyond what every process needs that imports torch, or checks.

The host of a virtual machine gives it more at some times than at others. So the processes that are
taken away took their turns among those that they are taken away from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scripts.lib.benchmark.findings import Row, spread_cells
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.turns import Contender, Result, Turn, find, take_turns

IMPORT_TORCH = Contender(
    "python -c 'import torch'", (sys.executable, "-c", "import torch"), imports_torch=True
)
CHECK = Contender(
    "import torch, equivalence check",
    (sys.executable, "-m", "scripts.lib.benchmark.check_alone"),
    imports_torch=True,
)


@dataclass(frozen=True)
class Comparison:
    """Results of contenders that took turns, and of what is taken away, in the same turns.

    `check` has the seconds of the check alone, without those of its process.
    """

    results: Sequence[Result]
    import_torch: Result
    check: Result

    @property
    def shown(self) -> tuple[Result, ...]:
        """The results that a table shows: those of the contenders, and `import torch`."""
        return (*self.results, self.import_torch)

    def find(self, contender: Contender) -> Result:
        """Return the result of a contender."""
        return find(self.results, contender)

    def beyond_torch_s(self, result: Result) -> float:
        """Return the durable seconds of a contender, less `import torch` if it does that."""
        return result.durable_s - result.contender.imports_torch * self.import_torch.durable_s

    def beyond_torch_bytes(self, result: Result) -> int:
        """Return the peak memory of a contender, less that of `import torch` if it does that."""
        return result.peak_bytes - result.contender.imports_torch * self.import_torch.peak_bytes

    def beyond_check_s(self, result: Result) -> float:
        """Return the seconds of a contender beyond `import torch` and the check.

        They are few beside those, and fewer than what the host of a virtual machine makes of the
        same command from one minute to the next: so each is that of the fastest turn.
        """
        fastest = (result, self.import_torch, self.check)
        ours_s, import_torch_s, check_s = (min(each.times) for each in fastest)
        return ours_s - import_torch_s - check_s

    def cells(self, result: Result) -> Row:
        """Return the cells that tell what a contender took, beyond `import torch` too."""
        return {
            **spread_cells(result),
            "beyond_import_torch_s": self.beyond_torch_s(result),
            "peak_bytes": result.peak_bytes,
            "peak_beyond_import_torch_bytes": self.beyond_torch_bytes(result),
        }

    def check_cells(self, result: Result) -> Row:
        """Return the cells that tell what is beyond the check too, of one that does it."""
        does_check = result.contender.imports_torch and result is not self.import_torch
        return {
            "beyond_import_torch_and_check_s": self.beyond_check_s(result) if does_check else None,
            "peak_beyond_import_torch_bytes": self.beyond_torch_bytes(result),
        }


def compare_in_turns(turns: Mapping[Contender, Callable[[], Turn]], *, runs: int) -> Comparison:
    """Run each contender, `import torch` and the check `runs` times, one after the other."""
    taken_away = {IMPORT_TORCH: _import_torch, CHECK: _check}
    *results, import_torch, check = take_turns({**turns, **taken_away}, runs=runs)
    return Comparison(results, import_torch, check)


def _import_torch() -> Turn:
    return Turn(run(IMPORT_TORCH.command))


def _check() -> Turn:
    finished = run(CHECK.command)
    return Turn(replace(finished, wall_s=float(finished.stdout)))
