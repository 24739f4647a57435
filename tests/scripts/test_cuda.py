"""scripts/cuda on a machine without a CUDA device, and what it makes of what ran on one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from conv2linear import bench
from conv2linear.operations.bench.inputs import INPUT_SIZES, BenchLimits
from scripts.lib.cuda import FileOutcome, find_test_files, format_page, run_tests
from scripts.lib.results import ROOT, describe_machine


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "cuda", "--results", folder],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_without_a_device_is_refused_in_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: torch ")
    assert line.endswith(" finds no CUDA device")
    assert list(tmp_path.iterdir()) == []


def test_a_python_without_torch_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so')")
    done = run(tmp_path / "results", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "cannot import torch: libtorch.so" in line


def test_the_files_with_tests_for_a_device_are_found() -> None:
    found = [path.relative_to(ROOT).as_posix() for path in find_test_files()]
    assert any(name.startswith("tests/equivalence/") for name in found)
    assert not any(name.startswith(("tests/hub/", "tests/scripts/")) for name in found)


PLANTED = """
from pytest import mark, skip

@mark.cuda
def test_that_passes():
    pass

@mark.cuda
@mark.parametrize("number", [1, 2])
def test_that_fails(number):
    assert not number

@mark.cuda
def test_that_is_skipped():
    skip("no reason")

def test_for_no_device():
    raise AssertionError
"""


def test_outcomes_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "test_planted.py"
    path.write_text(PLANTED)
    outcome = run_tests(path)
    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, 2, 1)
    assert outcome.left_out is None


def test_a_file_that_needs_a_missing_package_is_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "test_planted.py"
    path.write_text(f"import no_such_package\n{PLANTED}")
    outcome = run_tests(path)
    name = os.path.relpath(path, ROOT)
    assert outcome == FileOutcome(name, left_out="no_such_package is not installed")


def test_a_file_that_cannot_be_imported_for_another_reason_has_failed(tmp_path: Path) -> None:
    path = tmp_path / "test_planted.py"
    path.write_text(f"import conv2linear.no_such_module\n{PLANTED}")
    assert run_tests(path).failed == 1


DEVICE = {
    "name": "H200",
    "capability": "9.0",
    "memory_bytes": 150e9,
    "cuda": "13.0",
    "cudnn": 91500,
}
FILES = [FileOutcome("tests/a.py", passed=2, failed=1), FileOutcome("tests/b.py", left_out="why")]
PACKAGES = ("torch", "safetensors", "transformers", "huggingface_hub", "typer", "rich", "pytest")


def test_the_report_names_the_device_the_tests_and_the_figures() -> None:
    limits = BenchLimits(inputs=(INPUT_SIZES[0],), budget_s=0, tower_side=None)
    document = bench(device="cpu", dtype="fp32", limits=limits).to_dict()
    page = "\n".join(format_page(describe_machine(PACKAGES), DEVICE, FILES, document))
    assert "on H200 (compute capability 9.0, 150 GB), CUDA 13.0, cuDNN 91500" in page
    assert "| tests/a.py | 2 | 1 | 0 |  |" in page
    assert "| tests/b.py | 0 | 0 | 0 | why |" in page
    figures = r"[\d.]+ m?s \| [\d.]+ m?s \| [\d.]+ ×"
    assert re.search(rf"^\| fp32 \| 224² \| 256 \| {figures} \|$", page, re.MULTILINE)


def test_an_input_that_takes_too_long_is_named() -> None:
    limits = BenchLimits(inputs=INPUT_SIZES[:2], budget_s=0, longest_run_s=0, tower_side=None)
    document = bench(device="cpu", dtype="fp32", limits=limits).to_dict()
    assert "left out: " in format_page(describe_machine(PACKAGES), DEVICE, FILES, document)[-1]


def test_the_report_says_why_there_are_no_figures() -> None:
    page = format_page(
        describe_machine(PACKAGES), DEVICE, FILES, {"error": {"message": "Conv3d is wrong"}}
    )
    assert page[-1] == "Conv3d is wrong"
