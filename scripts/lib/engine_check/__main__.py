"""Show with real runs of an engine that it serves a linear checkpoint as it serves the original."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from scripts.lib.engine_check.cases import Answers, Case, baseline, judge, plan_cases
from scripts.lib.engine_check.tiny_models import MODEL_TYPES, save_servable_model
from scripts.lib.results import ROOT, format_heading, format_row, say
from tests.support.checkpoints import WEIGHT

_ENGINE_ENV = {
    "vllm": {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"},
    "sglang": {"SGLANG_USE_CPU_ENGINE": "1"},
}
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Run:
    """What came of one start of an engine; `answers` is None where it failed."""

    answers: Answers | None
    log: str
    seconds: float


def main() -> None:
    """Run every case of the model types, and exit with 1 where one failed."""
    parser = argparse.ArgumentParser(prog="scripts/check_engine", description=__doc__)
    parser.add_argument("engine", choices=sorted(_ENGINE_ENV))
    parser.add_argument("model_types", nargs="*", metavar="MODEL_TYPE", help=", ".join(MODEL_TYPES))
    arguments = parser.parse_args()
    unknown = set(arguments.model_types) - set(MODEL_TYPES)
    if unknown:
        parser.error(f"no such model type: {min(unknown)}")
    failed = 0
    print("\n".join(format_heading(("model type", "run", "expected", "found", "s", ""))))
    with tempfile.TemporaryDirectory(prefix="engine-check-") as folder:
        for model_type in arguments.model_types or MODEL_TYPES:
            work = Path(folder, model_type)
            _save_checkpoints(model_type, work)
            failed += _check(arguments.engine, model_type, work)
    print(f"\n{arguments.engine}: " + (f"{failed} failed" if failed else "all as expected"))
    if failed:
        sys.exit(1)


def _save_checkpoints(model_type: str, work: Path) -> None:
    """Save the original, its linear form by `conv2linear convert`, and checkpoints with faults."""
    original, linear = work / "original", work / "linear"
    save_servable_model(model_type, original, seed=0)
    save_servable_model(model_type, work / "other", seed=1)
    program = Path(sys.executable).with_name("conv2linear")
    # stdout is for the table of runs.
    subprocess.run([program, "convert", original, linear], check=True, stdout=sys.stderr)
    for name in ("transposed", "reversed"):
        shutil.copytree(linear, work / name)
        shard = work / name / "model.safetensors"
        tensors = load_file(shard)
        weight = tensors[WEIGHT]
        # Both hold the same values; "reversed" has the right shape, too.
        fault = weight.t() if name == "transposed" else weight.flip(1)
        save_file(tensors | {WEIGHT: fault.contiguous()}, shard, metadata={"format": "pt"})


def _check(engine: str, model_type: str, work: Path) -> int:
    """Run every case of a model type, print a table row for each, and count the failures."""
    case = baseline(engine)
    run = _run(engine, case, work)
    expected = run.answers
    if expected is None or expected["gradient"] == expected["checker"]:
        _print(model_type, case, run, "no answers, or the image changes none", passed=False)
        return 1
    _print(model_type, case, run, "answers, other ones for another image", passed=True)
    failed = 0
    for case in plan_cases(engine, model_type):
        run = _run(engine, case, work)
        outcome, passed = judge(case, expected, run.answers, run.log)
        _print(model_type, case, run, outcome, passed=passed)
        failed += not passed
    return failed


def _run(engine: str, case: Case, work: Path) -> Run:
    """Start the engine in a process of its own and let it answer the prompts."""
    output = work / "answers.json"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"scripts.lib.engine_check.generate_{engine}"]
    command += [str(work / case.checkpoint), str(output)]
    if case.update_from is not None:
        command.append(str(work / case.update_from))
    started = time.monotonic()
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | _ENGINE_ENV[engine] | case.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
        check=False,
    )
    seconds = time.monotonic() - started
    answers = json.loads(output.read_text()) if output.exists() else None
    return Run(answers, finished.stdout, seconds)


def _print(model_type: str, case: Case, run: Run, outcome: str, *, passed: bool) -> None:
    """Print a table row, and the end of the log of a case that failed."""
    verdict = "ok" if passed else "FAILED"
    cells = (model_type, case.name, case.expect, outcome, f"{run.seconds:.0f}", verdict)
    print(format_row(cells), flush=True)
    if not passed:
        say(run.log[-3000:])


if __name__ == "__main__":
    main()
