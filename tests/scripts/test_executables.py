"""The executables of scripts/ are named alike and lead to code that exists."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from scripts.lib.results import ROOT

FOLDER = ROOT / "scripts"
EXECUTABLES = sorted(path for path in FOLDER.iterdir() if path.is_file() and not path.suffix)
NAMES = {
    *("setup", "test", "demo", "cuda"),
    *("benchmark", "chaos", "fuzz", "mutate", "check_engine", "hub_traffic"),
    "model_types",
    "schemas",
    "packages",
    "check_transformers",
}


def test_nothing_else_is_there() -> None:
    assert {path.name for path in EXECUTABLES} == NAMES


@pytest.mark.parametrize("path", EXECUTABLES, ids=lambda path: path.name)
def test_an_executable_is_a_bash_script_that_says_how_to_use_it(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    head = [line for line in lines if line.startswith("#")]
    assert f"scripts/{path.name}" in "\n".join(head[1:])
    assert "set -euo pipefail" in lines
    assert 'cd "$(dirname "$0")/.."' in lines


@pytest.mark.parametrize("path", EXECUTABLES, ids=lambda path: path.name)
def test_an_executable_runs_a_module_that_exists(path: Path) -> None:
    modules = re.findall(r"-m (scripts\.[\w.]+)", path.read_text())
    assert modules or path.name in ("setup", "test")
    for module in modules:
        assert importlib.util.find_spec(module), module


def test_an_engine_that_is_not_known_is_refused_before_anything_is_installed() -> None:
    done = subprocess.run(
        [FOLDER / "check_engine", "llama"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "usage: scripts/check_engine vllm|sglang [GROUP ...]\n"
    assert done.stdout == ""


def test_tests_support_imports_nothing_of_the_scripts() -> None:
    for path in (ROOT / "tests" / "support").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) scripts\b", path.read_text(), re.MULTILINE), path


def test_nothing_edits_the_search_path() -> None:
    for folder in (FOLDER, ROOT / "tests"):
        for path in folder.rglob("*.py"):
            if path != Path(__file__):
                assert "sys.path.insert" not in path.read_text(), path
