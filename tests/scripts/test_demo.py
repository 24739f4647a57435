"""scripts/demo shows what it says, on a checkpoint of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.lib.demo.show_header import describe_tensor
from scripts.lib.results import ROOT
from tests.support.checkpoints import WEIGHT
from tests.support.contents import hashes


def test_the_demo_takes_a_checkpoint_there_and_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.lib.demo", "--workdir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all hashes are equal" in done.stdout
    source, linear, restored = (tmp_path / "demo" / n for n in ("source", "linear", "restored"))
    for folder, shape in ((source, "[1536, 3, 2, 14, 14]"), (linear, "[1536, 1176]")):
        line = describe_tensor(folder, WEIGHT)
        assert line.endswith(f"BF16 {shape}")
        assert line in done.stdout
    assert hashes(restored) == hashes(source) != hashes(linear)
    assert session_in_readme(without=done.stderr) == steps(done.stdout)


def session_in_readme(*, without: str) -> list[str]:
    """Return the session that the README shows, without the lines that go to stderr."""
    readme = (ROOT / "README.md").read_text()
    session = readme.partition("## A session\n")[2].partition("```console\n")[2].partition("```")[0]
    told = mask(without)
    return [line for line in mask(session) if line not in told]


def steps(stdout: str) -> list[str]:
    """Return what the demo prints once its checkpoint is made."""
    return mask("# What is it" + stdout.partition("# What is it")[2])


def mask(text: str) -> list[str]:
    """Return the lines of a text without numbers, and without the name of the device."""
    text = re.sub(r"on (?:cpu|cuda:\d+)(?: \(.*\))?:", "on DEVICE:", text)
    return [re.sub(r"\d[\d.]*", "0", line) for line in text.splitlines() if line]


def test_the_demo_ends_where_a_command_fails(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    faulty = tmp_path / "conv2linear"
    faulty.mkdir()
    (faulty / "__init__.py").touch()
    (faulty / "__main__.py").write_text("raise SystemExit(7)")
    command = [sys.executable, "-m", "scripts.lib.demo", "--workdir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 7
    assert "conv2linear convert" not in done.stdout
