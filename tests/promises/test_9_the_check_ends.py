"""The equivalence check ends, in bounded memory; `python -O` changes nothing that matters."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import conv2linear
from conv2linear import inspect_checkpoint
from conv2linear.cli.app import run
from conv2linear.errors import UnsupportedCheckpointError
from conv2linear.operations.convert import convert, plan_conversion
from tests.support.checkpoints import SMALL_KERNEL, WEIGHT, write_checkpoint
from tests.support.damage import edit_json, flip_bit

_MEGABYTE = 1 << 20


def write(folder: Path, kernel: tuple[int, ...]) -> Path:
    return write_checkpoint(folder, shards=1, filler_bytes=1 << 10, kernel=kernel)


@pytest.mark.parametrize(
    "kernel", [(1, 3, 2, 512, 512), (1, 16385, 1, 1, 1), (8193, 2, 4, 32, 32)], ids=str
)
def test_a_layer_too_large_to_be_checked_is_refused_before_any_work(
    kernel: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "source", (8, 3, 2, 2, 2))

    def enlarge(config: dict[str, dict[str, int]]) -> None:
        names = ("hidden_size", "in_channels", "temporal_patch_size", "patch_size")
        config["vision_config"] |= dict(zip(names, kernel[:4], strict=True))

    edit_json(source / "config.json", enlarge)
    start = time.perf_counter()
    with pytest.raises(UnsupportedCheckpointError, match="too large to be checked"):
        plan_conversion(source)
    with pytest.raises(UnsupportedCheckpointError, match="too large to be checked"):
        inspect_checkpoint(source)
    assert run(["convert", str(source), str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert time.perf_counter() - start < 5
    error = capsys.readouterr().err
    assert "at most 16384 values in a patch, and 67108864 in all" in error
    assert not (tmp_path / "out").exists()


def test_a_small_file_with_the_largest_patch_is_checked_in_time_and_memory(tmp_path: Path) -> None:
    source = write(tmp_path / "source", (32, 4, 4, 32, 32))  # K = 16,384, a weight of 1 MB
    code = (
        "import resource, sys, time\n"
        "from conv2linear import convert\n"
        "import torch\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "start = time.perf_counter()\n"
        "print(convert(*sys.argv[1:], device='cpu').checks[0].basis_patches)\n"
        "print(time.perf_counter() - start)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = run_python("-c", code, str(source), str(tmp_path / "out"))
    basis_patches, seconds, grown_kb = done.stdout.split()
    assert basis_patches == "16384"
    assert float(seconds) < 60  # 3 on a core of its own
    assert int(grown_kb) * 1024 < 250 * _MEGABYTE


@pytest.mark.parametrize("flags", [[], ["-O"]], ids=["plain", "-O"])
def test_the_command_line_finds_the_same_without_assertions(
    flags: list[str], tmp_path: Path
) -> None:
    source = write(tmp_path / "source", SMALL_KERNEL)
    convert(source, tmp_path / "sound", device="cpu")
    convert(source, tmp_path / "damaged", device="cpu")
    flip_bit(tmp_path / "damaged", WEIGHT)
    sound, damaged = tmp_path / "sound", tmp_path / "damaged"
    commands = [
        ("convert", source, tmp_path / "out"),
        ("verify", sound),
        ("verify", damaged),
        ("convert", sound, tmp_path / "again"),
    ]
    code = (
        "import json, sys\n"
        "from conv2linear.cli.app import run\n"
        "options = ['--device', 'cpu', '--json']\n"
        "codes = [run([*command, *options]) for command in json.loads(sys.argv[1])]\n"
        "print(codes, file=sys.stderr)\n"
    )
    done = run_python(*flags, "-c", code, json.dumps(commands, default=str))
    assert done.stderr.splitlines()[-1] == "[0, 0, 1, 2]"


def test_no_behaviour_hangs_on_an_assertion() -> None:
    for path in Path(conv2linear.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            place = f"{path}:{getattr(node, 'lineno', 0)}"
            assert not isinstance(node, ast.Assert), place
            assert not (isinstance(node, ast.Name) and node.id == "__debug__"), place


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
