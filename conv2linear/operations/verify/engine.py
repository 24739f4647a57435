"""Load a linear checkpoint with an engine, for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conv2linear.errors import CheckFailedError, Conv2LinearError
from conv2linear.operations.verify.subject import Run, SkippedError
from conv2linear.sources.folder import Folder

TRANSFORMERS = "transformers"


def _engine_check(engine: str) -> Callable[[Run], str]:
    if engine != TRANSFORMERS:
        raise Conv2LinearError(f"engine {engine!r} is not known", hint=f"use {TRANSFORMERS}")
    return _load_in_transformers


def _load_in_transformers(run: Run) -> str:
    from conv2linear.engines.detection import installed_engines

    if not isinstance(run.repository, Folder):
        raise SkippedError("the checkpoint is on the Hub: download it first")
    if run.manifest is not None and run.manifest.partial:
        raise SkippedError("an overlay does not load by itself")
    status = next(status for status in installed_engines() if status.name == TRANSFORMERS)
    if not status.loads_linear:
        raise SkippedError(f"transformers {status.version or ''}: {status.reason}")
    loaded = _load_in_fresh_process(run.repository.path)
    problems = {
        f"missing {loaded['missing']}": loaded["missing"],
        f"mismatched {loaded['mismatched']}": loaded["mismatched"],
        f"linear_proj is {loaded['module']}, expected Linear": not loaded["is_linear"],
        "its values are not those of the file": loaded.get("values_equal") is False,
        "its output is not that of the file's weight": loaded.get("outputs_equal") is False,
    }
    if found := [problem for problem, is_there in problems.items() if is_there]:
        raise CheckFailedError("; ".join(found))
    return (
        f"transformers {status.version} builds nn.Linear {loaded['dtype']} {loaded['shape']} "
        "with the file's values and output; any version from 5.6 on is needed"
    )


def _load_in_fresh_process(folder: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "conv2linear.engines.transformers", str(folder.resolve())]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **offline}, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CheckFailedError(f"transformers does not load it: {last}")
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result
