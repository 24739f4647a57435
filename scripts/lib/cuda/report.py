"""Write down what was found, as a page and as JSON, and the verdict on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scripts.lib.cuda.device import Device
from scripts.lib.cuda.processes import Done
from scripts.lib.cuda.run_tests import FileOutcome
from scripts.lib.results import format_table, format_versions

PACKAGES = ("torch", "safetensors", "transformers", "huggingface_hub", "typer", "rich", "pytest")
_ISSUE = "[SGLang #20033](https://github.com/sgl-project/sglang/pull/20033)"
_ISSUE_FIGURES = "0.6340 ms and 0.0256 ms (24.8 ×)"


@dataclass(frozen=True)
class Findings:
    """All that a run found. `engines` and `bench` are what the commands print as JSON."""

    machine: dict[str, Any]
    device: Device
    tests: tuple[FileOutcome, ...]
    steps: tuple[Done, ...]
    engines: tuple[dict[str, Any], ...]
    bench: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """1 where a test failed or none passed, else that of the first command that failed."""
        if any(file.failed for file in self.tests) or not any(file.passed for file in self.tests):
            return 1
        return next((step.code for step in self.steps if step.code), 0)

    @property
    def verdict(self) -> str:
        """Say in one line whether all is sound, and what is not."""
        passed, failed, skipped = (
            sum(getattr(file, what) for file in self.tests)
            for what in ("passed", "failed", "skipped")
        )
        counts = f"{passed} tests passed, {failed} failed, {skipped} skipped"
        if left_out := [file for file in self.tests if file.left_out]:
            counts += f", {len(left_out)} files left out"
        broken = [f"{step.name} ended with {step.code}" for step in self.steps if step.code]
        judged = "sound" if self.exit_code == 0 else "NOT SOUND"
        if self.device.is_rehearsal:
            judged = f"a rehearsal without a GPU, which shows nothing of CUDA; {judged}"
        return f"{judged}: " + "; ".join([counts, *(broken or ["every command did its work"])])


def make_document(findings: Findings) -> dict[str, Any]:
    """Return the values of the JSON file."""
    return {
        "command": "scripts/cuda",
        "verdict": findings.verdict,
        "exit_code": findings.exit_code,
        "machine": findings.machine,
        "device": dataclasses.asdict(findings.device),
        "tests": [dataclasses.asdict(file) for file in findings.tests],
        "steps": [
            {"name": s.name, "exit_code": s.code, "seconds": s.seconds} for s in findings.steps
        ],
        "engines": list(findings.engines),
        "checks": _checks(findings),
        "bench": findings.bench,
    }


def make_page(findings: Findings) -> list[str]:
    """Return the lines of the page."""
    machine = findings.machine
    return [
        "# CUDA",
        "",
        f"**Verdict:** {findings.verdict}.",
        "",
        f"Made by `scripts/cuda` on {findings.device.describe()}, {machine['cores']} cores of "
        f"{machine['cpu']}, Linux {machine['kernel']}.",
        format_versions(machine, PACKAGES),
        "",
        "## Conv3d and the linear layer",
        "",
        *_bench_lines(findings.bench),
        "",
        "## The check",
        "",
        *_check_lines(findings),
        "",
        "## Tests",
        "",
        *format_table(
            ("file", "passed", "failed", "skipped", "left out"),
            [(f.file, f.passed, f.failed, f.skipped, f.left_out or "") for f in findings.tests],
        ),
        "",
        "## Commands",
        "",
        *format_table(
            ("step", "exit code", "seconds"), [(s.name, s.code, s.seconds) for s in findings.steps]
        ),
        "",
        "## Engines",
        "",
        *format_table(
            ("engine", "installed", "loads a linear checkpoint", "why"),
            [
                (e["name"], e["version"] or "no", "yes" if e["loads_linear"] else "no", e["reason"])
                for e in findings.engines
            ],
        ),
    ]


def _bench_lines(bench: dict[str, Any]) -> Iterator[str]:
    if "error" in bench:
        yield bench["error"]["message"]
        return
    yield f"Median of one call (lower to upper quartile); in bf16, {_ISSUE} gives {_ISSUE_FIGURES}."
    yield ""
    yield "![Time against patches](cuda.svg)"
    yield ""
    heads = ("dtype", "input", "patches", "Conv3d", "linear", "speed-up", "error / bound")
    yield from format_table(heads, [_bench_row(each) for each in bench["measurements"]])
    for warning in bench["warnings"]:
        yield ""
        yield f"Warning: {warning}."
    if tower := bench["tower"]:
        yield ""
        yield from _tower_lines(tower)


def _bench_row(measurement: dict[str, Any]) -> tuple[str, ...]:
    speedup, layers = measurement["speedup"], [measurement[name] for name in ("conv3d", "linear")]
    ratios = [layer["max_over_bound"] for layer in layers]
    return (
        measurement["dtype"],
        measurement["input"]["name"],
        f"{measurement['input']['patches']:,}",
        *(_format_layer(layer) for layer in layers),
        "" if speedup is None else f"{speedup:.1f} ×",
        ", ".join("-" if ratio is None else f"{ratio:.1%}" for ratio in ratios),
    )


def _tower_lines(tower: dict[str, Any]) -> Iterator[str]:
    yield (
        f"The whole vision tower, bf16, one image of {tower['patches']:,} patches: time to load it "
        "in a new process, to its first embedding after that, and to a later one."
    )
    yield ""
    rows = [
        (name, *(_format_timing(tower[key][what]) for what in ("load", "first", "later")))
        for key, name in (("conv3d", "Conv3d"), ("linear", "linear"))
        if tower[key]
    ]
    yield from format_table(("patch embedding", "load", "first embedding", "later"), rows)
    if tower["skipped"]:
        yield ""
        yield f"Not measured: {tower['skipped']}."


def _format_layer(layer: dict[str, Any]) -> str:
    if layer["timing"] is None:
        return f"left out: {layer['skipped']}"
    return _format_timing(layer["timing"])


def _format_timing(timing: dict[str, Any]) -> str:
    if timing["runs"] == 1:
        return f"{_format_seconds(timing['median_s'])} (1 run)"
    quartiles = (timing["lower_quartile_s"], timing["upper_quartile_s"])
    low, high = map(_format_seconds, quartiles)
    return f"{_format_seconds(timing['median_s'])} ({low} to {high})"


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _checks(findings: Findings) -> list[dict[str, Any]]:
    """Return the outcomes of the equivalence check that `convert` made."""
    documents = [step.document for step in findings.steps if step.name == "convert"]
    return [check for document in documents for check in document.get("checks", ())]


def _check_lines(findings: Findings) -> Iterator[str]:
    checks = _checks(findings)
    if not checks:
        yield "`convert` gave no result."
    for check in checks:
        linear, conv3d = check["linear"], check["conv3d"]
        yield (
            f"`convert` on {check['environment']['device']}, {check['dtype']}: "
            f"{check['basis_patches']} one-hot patches give the kernel's columns bit for bit; on "
            f"{check['sampled_patches']} sampled ones the largest error of the linear layer is "
            f"{linear['max_over_bound']:.1%} of its bound"
            + (f", that of Conv3d {conv3d['max_over_bound']:.3g} times its." if conv3d else ".")
        )
        if check["warning"]:
            yield f"Warning: {check['warning']}."
