"""scripts/demo shows what it says, on a checkpoint of its own."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

from conv2linear.cli.app import app
from scripts.lib.demo.picture import COLUMNS, PICTURE
from scripts.lib.demo.show_header import describe_tensor
from scripts.lib.results import ROOT
from tests.support.checkpoints import WEIGHT
from tests.support.contents import hashes


def test_the_demo_takes_a_checkpoint_there_and_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.lib.demo", "--workdir", str(tmp_path)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "COLUMNS": str(COLUMNS),
        },
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
    commands = re.findall(r"^\$ conv2linear (\w+)", done.stdout, re.M)
    assert set(commands) == {command.name for command in app.registered_commands}
    assert "a new repository" in done.stdout  # of push, as a dry run
    missing = [line for line in mask(session_in_picture()) if line not in mask(done.stdout)]
    assert missing == []


def session_in_picture() -> str:
    """Return the lines of the picture, which stand in one text element each, or in several."""
    picture = PICTURE.read_text()
    lines: dict[str, str] = {}
    for place, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', picture):
        lines[place] = lines.get(place, "") + html.unescape(text).replace("\xa0", " ")
    shown = "\n".join(line.rstrip() for line in lines.values())
    return shown.replace("GLM-4.5V-small", "demo/source")


def mask(text: str) -> list[str]:
    """Return what rows say, without spaces, numbers, names of devices and of folders."""
    text = re.sub(r"on (?:cpu|cuda:\d+)(?: \(.*\))?:", "on DEVICE:", text)
    text = text.replace("demo/", "")
    lines = [re.sub(r"\d[\d.]*", "0", re.sub(r"\s+", "", line)) for line in text.splitlines()]
    return [
        line
        for line in lines
        if line and not line.startswith(("$", "took", "speed", "0ms", "conv0linear"))
    ]


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
