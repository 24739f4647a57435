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
from dataclasses import dataclass, field
from pathlib import Path

import tiny_models
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
WEIGHT = "model.visual.patch_embed.proj.weight"
STOCK_REFUSAL = "Attempted to load weight"
PLUGIN_REFUSAL = "patch embedding weight: expected shape"
PLUGIN_LINE = "conv2linear: linear patch embedding weight [128, 1176] loaded as Conv3d kernel"
ENGINE_ENV = {
    "vllm": {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"},
    "sglang": {"SGLANG_USE_CPU_ENGINE": "1"},
}
NO_PLUGIN = {"vllm": {"VLLM_PLUGINS": ""}, "sglang": {"SGLANG_PLUGINS": "none"}}
EXTERNAL_PACKAGE = {
    "SGLANG_PLUGINS": "none",
    "SGLANG_EXTERNAL_MODEL_PACKAGE": "conv2linear.engines.sglang_models",
}


@dataclass(frozen=True)
class Case:
    """One start of an engine: what it loads, how, and what must come of it.

    `expect` compares the answers with the original's: "same", "different", or "refused" where
    the engine must not start, with the words of `refusal` in its log.
    """

    name: str
    checkpoint: str
    expect: str
    refusal: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    update_from: str | None = None

    @property
    def plugin_speaks(self) -> bool:
        """Tell whether a linear weight is loaded, which the plugin says in a log line."""
        return self.expect != "refused" and "original" not in (self.checkpoint, self.update_from)


def cases(engine: str, model_type: str) -> list[Case]:
    no_plugin = NO_PLUGIN[engine]
    plan = [
        Case("original, plugin", "original", "same"),
        Case("linear, no plugin", "linear", "refused", STOCK_REFUSAL, no_plugin),
        Case("linear, plugin", "linear", "same"),
    ]
    if model_type != "glm4v":
        return plan
    plan += [
        Case("linear into other weights", "other", "same", update_from="linear"),
        Case("transposed, plugin", "transposed", "refused", PLUGIN_REFUSAL),
        Case("columns reversed, plugin", "reversed", "different"),
    ]
    if engine == "sglang":
        plan.append(Case("linear, model package", "linear", "same", env=EXTERNAL_PACKAGE))
    return plan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=sorted(ENGINE_ENV))
    parser.add_argument("model_types", nargs="*", metavar="MODEL_TYPE")
    arguments = parser.parse_args()
    failed = 0
    print("| model type | run | expected | found | s | |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="engine-check-") as folder:
        for model_type in arguments.model_types or tiny_models.CONFIGS:
            work = Path(folder, model_type)
            make_checkpoints(model_type, work)
            failed += check(arguments.engine, model_type, work)
    print(f"\n{arguments.engine}: " + (f"{failed} failed" if failed else "all as expected"))
    return 1 if failed else 0


def make_checkpoints(model_type: str, work: Path) -> None:
    """Write the original, its linear form by `conv2linear convert`, and checkpoints with faults."""
    original, linear = work / "original", work / "linear"
    tiny_models.write_checkpoint(model_type, original, seed=0)
    tiny_models.write_checkpoint(model_type, work / "other", seed=1)
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


def check(engine: str, model_type: str, work: Path) -> int:
    """Run every case of a model type, print a table row for each, and count the failures."""
    baseline = Case("original, no plugin", "original", "answers", env=NO_PLUGIN[engine])
    answers, log, seconds = run(engine, baseline, work)
    if answers is None or answers["gradient"] == answers["checker"]:
        report(model_type, baseline, "no answers, or the image changes none", log, seconds)
        return 1
    report(model_type, baseline, "answers, other ones for another image", None, seconds)
    failed = 0
    for case in cases(engine, model_type):
        found, log, seconds = run(engine, case, work)
        outcome, passed = judge(case, answers, found, log)
        report(model_type, case, outcome, None if passed else log, seconds)
        failed += not passed
    return failed


def judge(case: Case, answers: dict, found: dict | None, log: str) -> tuple[str, bool]:
    """Say what came of a case, and whether it is what had to."""
    if found is None:
        refusals = [line for line in log.splitlines() if case.refusal and case.refusal in line]
        if not refusals:
            return "failed", False
        return "…" + refusals[0][refusals[0].index(case.refusal) :], True
    outcome = compare(answers, found)
    if case.plugin_speaks and PLUGIN_LINE not in log:
        return outcome + ", but no log line of the plugin", False
    return outcome, outcome.startswith(case.expect)


def run(engine: str, case: Case, work: Path) -> tuple[dict | None, str, float]:
    """Start the engine in a process of its own; answers are None when it failed."""
    output = work / "answers.json"
    output.unlink(missing_ok=True)
    command = [sys.executable, HERE / f"generate_{engine}.py", work / case.checkpoint, output]
    if case.update_from is not None:
        command.append(work / case.update_from)
    started = time.monotonic()
    finished = subprocess.run(
        command,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | ENGINE_ENV[engine] | case.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=600,
    )
    answers = json.loads(output.read_text()) if output.exists() else None
    return answers, finished.stdout, time.monotonic() - started


def compare(expected: dict, found: dict) -> str:
    if expected == found:
        return "same tokens and logprobs"
    if any(expected[image]["tokens"] != found[image]["tokens"] for image in expected):
        return "different tokens"
    return "different logprobs"


def report(model_type: str, case: Case, outcome: str, failure: str | None, seconds: float) -> None:
    """Print a table row; `failure` is the log of a case that did not come out as it had to."""
    verdict = "ok" if failure is None else "FAILED"
    cells = (model_type, case.name, case.expect, outcome, f"{seconds:.0f}", verdict)
    print(f"| {' | '.join(cells)} |", flush=True)
    if failure is not None:
        print(failure[-3000:], file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
