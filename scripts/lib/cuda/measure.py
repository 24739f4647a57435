"""Measure both layers and the vision tower once, and draw the result as PNG and as SVG.

Run as `python -m scripts.lib.cuda.measure CHECKPOINT DEVICE FOLDER`; prints what `bench --json`
would. Without matplotlib nothing is drawn.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from conv2linear import BenchLimits, RichProgress, bench
from conv2linear.errors import Conv2LinearError
from conv2linear.operations.bench.plot import plot_bench

CHARTS = ("cuda.png", "cuda.svg")
_LIMITS = BenchLimits(tower_starts=5, tower_budget_s=120)  # for medians of what is timed but once


def main(checkpoint: str, device: str, folder: str) -> None:
    """Measure and draw; exits with the code of the error where that fails."""
    try:
        with RichProgress() as progress:
            result = bench(checkpoint, device=device, limits=_LIMITS, progress=progress)
        if importlib.util.find_spec("matplotlib"):
            for name in CHARTS:
                plot_bench(result, Path(folder, name))
    except Conv2LinearError as error:
        print(json.dumps({"error": {"message": str(error)}}))
        sys.exit(error.exit_code)
    print(json.dumps(result.to_dict(), default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
