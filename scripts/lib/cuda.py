"""Run the CUDA tests and `conv2linear bench` on this machine's GPU, and write down what came of it.

It takes the Python that runs it, with the packages that are installed there: a test file that
imports another one is left out and named.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from scripts.lib.results import (
    RESULTS,
    ROOT,
    describe_machine,
    format_table,
    format_versions,
    say,
    write_results,
)

_PACKAGES = ("torch", "safetensors", "transformers", "huggingface_hub", "typer", "rich", "pytest")
_OWN_PACKAGES = ("conv2linear", "tests", "scripts")
_MISSING = re.compile(r"ModuleNotFoundError: No module named '(?P<package>\w+)")
_PYTEST_COULD_NOT_IMPORT = (2, 4)  # a test file, a conftest.py


@dataclass(frozen=True)
class FileOutcome:
    """What came of the CUDA tests of a file; `left_out` says why they did not run."""

    file: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    left_out: str | None = None


class NoDeviceError(Exception):
    """There is nothing here to run on; the message says why."""


def main() -> None:
    """Run everything and write the report.

    Exits with 1 where a test failed or none ran, with the code of `bench` where that failed, and
    with 2 where there is no CUDA device.
    """
    parser = argparse.ArgumentParser(prog="scripts/cuda", description=__doc__)
    parser.add_argument("--results", type=Path, help="where to write the report", default=RESULTS)
    arguments = parser.parse_args()
    try:
        device = describe_device()
    except NoDeviceError as error:
        say(f"error: {error}")
        sys.exit(2)
    files = [run_tests(path) for path in find_test_files()]
    bench_code, bench = _run_bench()
    machine = describe_machine(_PACKAGES)
    document = {
        "command": "scripts/cuda",
        "machine": machine,
        "device": device,
        "tests": [dataclasses.asdict(file) for file in files],
        "bench": bench,
    }
    page = format_page(machine, device, files, bench)
    print(write_results(arguments.results, "cuda", document=document, page=page).read_text())
    passed = sum(file.passed for file in files)
    sys.exit(1 if any(file.failed for file in files) or not passed else bench_code)


def describe_device() -> dict[str, Any]:
    """Name the CUDA device and what drives it. Raises `NoDeviceError` where torch finds none."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise NoDeviceError(f"{sys.executable} cannot import torch: {error}") from None
    if not torch.cuda.is_available():
        raise NoDeviceError(f"torch {torch.__version__} finds no CUDA device")
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def find_test_files() -> list[Path]:
    """Return the test files of the repository that have tests for a CUDA device."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [path for path in files if "pytest.mark.cuda" in path.read_text()]


def run_tests(path: Path) -> FileOutcome:
    """Run the CUDA tests of one file in a process of their own."""
    name = os.path.relpath(path, ROOT)
    say(f"{name} ...")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "--rootdir", "."]
        command += ["-p", "no:cacheprovider", "-m", "cuda", f"--junitxml={report}", str(path)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        missing = _MISSING.search(done.stdout)
        if done.returncode in _PYTEST_COULD_NOT_IMPORT and missing:
            package = missing["package"]
            if package not in _OWN_PACKAGES:
                return FileOutcome(name, left_out=f"{package} is not installed")
        if done.returncode:
            say(done.stdout)
        return _read_report(name, report)


def _read_report(name: str, report: Path) -> FileOutcome:
    """Count the outcomes; a file for which pytest wrote no report has failed."""
    if not report.exists():
        return FileOutcome(name, failed=1)
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    tests, failed, skipped = 0, 0, 0
    for suite in suites:
        tests += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return FileOutcome(name, passed=tests - failed - skipped, failed=failed, skipped=skipped)


def _run_bench() -> tuple[int, dict[str, Any]]:
    """Return the exit code of `bench` and the document that it printed."""
    say("bench ...")
    command = [sys.executable, "-m", "conv2linear", "bench", "--device", "cuda", "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        return 1, {"error": {"message": f"bench printed nothing and ended with {done.returncode}"}}
    return done.returncode, json.loads(done.stdout)


def format_page(
    machine: dict[str, Any],
    device: dict[str, Any],
    files: Sequence[FileOutcome],
    bench: dict[str, Any],
) -> list[str]:
    """Return the lines of the report; `bench` is the document of `conv2linear bench --json`."""
    lines = [
        "# CUDA",
        "",
        f"Made by `scripts/cuda` on {device['name']} (compute capability {device['capability']}, "
        f"{device['memory_bytes'] / 1e9:.0f} GB), CUDA {device['cuda']}, cuDNN {device['cudnn']}, "
        f"Linux {machine['kernel']}.",
        format_versions(machine, _PACKAGES),
        "",
        "## Tests",
        "",
        *format_table(
            ("file", "passed", "failed", "skipped", "left out"),
            [(f.file, f.passed, f.failed, f.skipped, f.left_out or "") for f in files],
        ),
        "",
        "## conv2linear bench",
        "",
    ]
    if "error" in bench:
        return [*lines, bench["error"]["message"]]
    heads = ("dtype", "input", "patches", "Conv3d", "linear", "speed-up")
    return [*lines, *format_table(heads, [_bench_row(each) for each in bench["measurements"]])]


def _bench_row(measurement: dict[str, Any]) -> tuple[str, ...]:
    speedup = measurement["speedup"]
    return (
        measurement["dtype"],
        measurement["input"]["name"],
        f"{measurement['input']['patches']:,}",
        _format_layer(measurement["conv3d"]),
        _format_layer(measurement["linear"]),
        "" if speedup is None else f"{speedup:.1f} ×",
    )


def _format_layer(layer: dict[str, Any]) -> str:
    if layer["timing"] is None:
        return f"left out: {layer['skipped']}"
    seconds = layer["timing"]["median_s"]
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


if __name__ == "__main__":
    main()
