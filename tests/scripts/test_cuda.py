"""scripts/cuda on a machine without a CUDA device, and what it makes of what ran on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripts.lib.cuda import FileOutcome, find_test_files, run_tests
from scripts.lib.results import ROOT


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
    assert "tests/equivalence/test_check.py" in found
    assert "tests/hub/test_repository.py" not in found


PLANTED = """
import pytest

@pytest.mark.cuda
def test_that_passes():
    pass

@pytest.mark.cuda
@pytest.mark.parametrize("number", [1, 2])
def test_that_fails(number):
    assert not number

@pytest.mark.cuda
def test_that_is_skipped():
    pytest.skip("no reason")

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
