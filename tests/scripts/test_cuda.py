"""scripts/cuda on a machine without a CUDA device, and what it makes of what ran on one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conv2linear import bench
from conv2linear.operations.bench.inputs import INPUT_SIZES, BenchLimits
from scripts.lib.cuda.device import Device
from scripts.lib.cuda.processes import Done, Runner
from scripts.lib.cuda.report import PACKAGES, Findings, make_document, make_page
from scripts.lib.cuda.run_tests import FileOutcome, find_test_files, run_tests
from scripts.lib.results import ROOT, describe_machine

LIMITS = BenchLimits(inputs=(INPUT_SIZES[0],), budget_s=0, tower_side=None)


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "cuda", "--results", folder, *arguments],
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


@pytest.mark.slow
def test_a_rehearsal_runs_every_part_and_says_that_it_shows_nothing_of_cuda(tmp_path: Path) -> None:
    done = run(tmp_path, "--device", "cpu", "--depth", "1")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"cuda.json", "cuda.md", "cuda.png", "cuda.svg", "cuda.log"}
    document = json.loads((tmp_path / "cuda.json").read_text())
    assert document["verdict"].startswith("a rehearsal without a GPU, which shows nothing of CUDA")
    assert {step["name"] for step in document["steps"]} >= {"convert", "verify", "bench"}
    assert document["bench"]["tower"]["skipped"] is None


def test_the_files_with_tests_for_a_device_are_found() -> None:
    found = [path.relative_to(ROOT).as_posix() for path in find_test_files()]
    assert {"tests/equivalence/test_on_cuda.py", "tests/equivalence/test_range.py"} <= set(found)
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


def test_outcomes_are_counted_for_each_file_and_one_that_needs_a_missing_package_is_left_out(
    tmp_path: Path,
) -> None:
    texts = {
        "test_planted.py": PLANTED,
        "test_needing.py": f"import no_such_package\n{PLANTED}",
        "test_broken.py": f"import conv2linear.no_such_module\n{PLANTED}",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    outcomes = run_tests(
        [tmp_path / name for name in texts],
        Runner(tmp_path / "log"),
        stand_in="cpu",
        root=tmp_path,
    )
    files = list(texts)
    assert outcomes == [
        FileOutcome(files[0], passed=1, failed=2, skipped=1),
        FileOutcome(files[1], left_out="no_such_package is not installed"),
        FileOutcome(files[2], failed=1),
    ]
    assert "test_that_fails" in (tmp_path / "log").read_text()


def test_tests_that_never_end_have_failed(tmp_path: Path) -> None:
    path = tmp_path / "test_planted.py"
    path.write_text("import os\nos._exit(3)\n")
    log = Runner(tmp_path / "log")
    (outcome,) = run_tests([path], log, stand_in="cpu", root=tmp_path)
    assert outcome.failed == 1


def test_a_part_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(60)\n")
    runner = Runner(tmp_path / "log")
    variables = {"PYTHONPATH": str(tmp_path)}
    assert runner.run("endless", "endless", timeout_s=0.5, variables=variables).code == 124


DEVICE = Device(
    "cuda",
    "H200",
    count=1,
    capability="9.0",
    memory_bytes=150_000_000_000,
    driver="580.65.06",
    cuda="13.0",
    cudnn="9.15.0",
)
FILES = (FileOutcome("tests/a.py", passed=2), FileOutcome("tests/b.py", left_out="why"))


@pytest.fixture(scope="module")
def findings() -> Findings:
    return Findings(
        machine=describe_machine(PACKAGES),
        device=DEVICE,
        tests=FILES,
        steps=(Done("convert", 0, 1.5, "{}"),),
        engines=(),
        bench=bench(device="cpu", dtype="fp32", limits=LIMITS).to_dict(),
    )


def test_the_page_names_the_device_the_tests_and_the_figures(findings: Findings) -> None:
    page = "\n".join(make_page(findings))
    assert (
        "on H200 (compute capability 9.0, 150 GB), driver 580.65.06, CUDA 13.0, cuDNN 9.15.0"
        in page
    )
    assert "| tests/a.py | 2 | 0 | 0 |  |" in page
    assert "| tests/b.py | 0 | 0 | 0 | why |" in page
    time_ = r"[\d.]+ m?s \([^|]+\)"
    figures = rf"{time_} \| {time_} \| [\d.]+ × \| [\d.]+%, [\d.]+%"
    assert re.search(rf"^\| fp32 \| 224² \| 256 \| {figures} \|$", page, re.MULTILINE)


def test_the_verdict_is_sound_where_nothing_failed(findings: Findings) -> None:
    assert findings.exit_code == 0
    assert findings.verdict == (
        "sound: 2 tests passed, 0 failed, 0 skipped, 1 files left out; every command did its work"
    )
    assert make_document(findings)["verdict"] == findings.verdict


def test_the_verdict_names_what_failed(findings: Findings) -> None:
    failed = replace(findings, tests=(FileOutcome("tests/a.py", passed=2, failed=1),))
    assert failed.exit_code == 1
    assert failed.verdict.startswith("NOT SOUND: 2 tests passed, 1 failed")
    none_ran = replace(findings, tests=(FileOutcome("tests/a.py", skipped=2),))
    assert none_ran.exit_code == 1
    broken = replace(findings, steps=(Done("convert", 0, 1, ""), Done("bench", 2, 1, "")))
    assert broken.exit_code == 2
    assert "bench ended with 2" in broken.verdict


def test_an_input_that_takes_too_long_is_named(findings: Findings) -> None:
    slow = replace(LIMITS, inputs=INPUT_SIZES[:2], longest_run_s=0)
    document = bench(device="cpu", dtype="fp32", limits=slow).to_dict()
    page = make_page(replace(findings, bench=document))
    assert any("left out: about " in line for line in page)


def test_the_page_says_why_there_are_no_figures(findings: Findings) -> None:
    page = make_page(replace(findings, bench={"error": {"message": "Conv3d is wrong"}}))
    assert "Conv3d is wrong" in page
