"""An output appears complete or not at all, whenever and however a run ends."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert
from tests.support.contents import read_files, snapshot
from tests.support.processes import RunCli
from tests.support.staging import assert_converted, inodes, staging_folder, staging_root

# Runs the command line, and stays for ever where a step begins or, in "write", which is on another
# thread than the check, for a second wherever it has moved bytes.
WAITING = """
import sys, time
from pathlib import Path
from conv2linear.cli.app import run
from conv2linear.cli.progress import RichProgress

*arguments, marker, moment = sys.argv[1:]
step, advance = RichProgress.step, RichProgress.advance
now = None

def wait(seconds=600):
    Path(marker).touch()  # tells that it is here
    time.sleep(seconds)

def wait_at_step(self, name, total_bytes=None):
    global now
    step(self, name, total_bytes)
    now = name
    if name == moment != "write":
        wait()

def wait_at_bytes(self, count_bytes):
    advance(self, count_bytes)
    if now == moment == "write":
        wait(1)

RichProgress.step, RichProgress.advance = wait_at_step, wait_at_bytes
sys.exit(run([*arguments, "--workers", "1"]))
"""


@pytest.fixture
def start(
    tmp_path: Path, cli_environment: dict[str, str]
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a command which then stays at a moment for ever."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path, moment: str) -> subprocess.Popen[str]:
        marker = tmp_path / "here"
        marker.unlink(missing_ok=True)
        command = [sys.executable, "-c", WAITING, *map(str, arguments), str(marker), moment]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=cli_environment,
        )
        started.append(process)
        deadline = time.monotonic() + 60
        while not marker.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("moment", ["check", "write", "read back", "publish"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_no_output_and_the_next_one_succeeds(
    large_checkpoint: Path,
    out: Path,
    start: Callable[..., subprocess.Popen[str]],
    moment: str,
    number: signal.Signals,
) -> None:
    before = snapshot(large_checkpoint)
    process = start("convert", large_checkpoint, out, "--device", "cpu", moment=moment)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert not out.exists()
    assert snapshot(large_checkpoint) == before
    assert stdout == ""
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        assert "error: interrupted" in stderr
        assert "hint: run again" in stderr
        assert "Traceback" not in stderr
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


def test_a_run_that_is_killed_leaves_the_old_output_complete(
    large_checkpoint: Path, out: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    shutil.copytree(large_checkpoint, out)
    before = snapshot(out)
    for moment in ("write", "publish"):
        arguments = ("convert", large_checkpoint, out, "--force", "--device", "cpu")
        process = start(*arguments, moment=moment)
        process.kill()
        process.communicate()
        assert snapshot(out) == before
    convert(large_checkpoint, out, device="cpu", force=True)
    assert_converted(large_checkpoint, out)


def test_the_second_of_two_runs_is_told_so_and_the_first_is_not_disturbed(
    large_checkpoint: Path,
    out: Path,
    start: Callable[..., subprocess.Popen[str]],
    run_cli: RunCli,
) -> None:
    process = start("convert", large_checkpoint, out, "--device", "cpu", moment="read back")
    staged = inodes(staging_folder(out))
    second = run_cli("convert", large_checkpoint, out, "--device", "cpu")
    second.assert_refused("another run is writing", str(out))
    assert process.poll() is None
    assert inodes(staging_folder(out)) == staged
    assert not out.exists()


def kill_at_random(checkpoint: Path, out: Path, *, times: int) -> int:
    """Kill conversions at random moments and check after each; return how many had finished."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["conv2linear.equivalence.load", "conv2linear.operations.convert"]
    )
    arguments: dict[str, Any] = {"device": "cpu", "force": True}
    before = snapshot(checkpoint)
    undisturbed = shutil.copytree(checkpoint, out.parent.parent / "undisturbed")
    convert(checkpoint, undisturbed, **arguments)
    expected = read_files(undisturbed)
    start = time.monotonic()
    convert(checkpoint, undisturbed, **arguments)
    duration = time.monotonic() - start
    moments = random.Random(0)
    finished = 0
    for _ in range(times):
        process = context.Process(target=convert, args=(checkpoint, out), kwargs=arguments)
        process.start()
        process.join(moments.uniform(0, 1.5 * duration))
        process.kill()
        process.join()
        finished += process.exitcode == 0
        assert snapshot(checkpoint) == before
        if out.exists():
            assert read_files(out) == expected
        assert {path.name for path in out.parent.iterdir()} <= {
            out.name,
            staging_root(out).name,
        }
    convert(checkpoint, out, **arguments)
    assert_converted(checkpoint, out)
    return finished


def test_nothing_is_lost_by_a_kill_at_a_random_moment(large_checkpoint: Path, out: Path) -> None:
    kill_at_random(large_checkpoint, out, times=20)


@pytest.mark.slow
def test_nothing_is_lost_by_200_kills_at_random_moments(large_checkpoint: Path, out: Path) -> None:
    finished = kill_at_random(large_checkpoint, out, times=200)
    assert 0 < finished < 200
