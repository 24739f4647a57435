"""A short run of scripts/chaos, and tests that its judgement finds what is planted."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert, restore
from conv2linear.errors import Conv2LinearError, OutputError
from scripts.lib.chaos.checkpoints import save_source
from scripts.lib.chaos.harness import Harness, Tally, open_harness
from scripts.lib.chaos.poor_systems import kill_on_poor_disk, kill_while_exchanging
from scripts.lib.chaos.scenarios import (
    change_source,
    fill_disk,
    interrupt,
    kill,
    lock_disk,
    run_twice,
    stop_hub,
)
from scripts.lib.chaos.staged_states import kill_on_tight_disk, tamper_with_staging
from scripts.lib.chaos.workspace import Job, Workspace
from tests.support.contents import hashes, shard_with
from tests.support.damage import replace_header
from tests.support.fork_server import Finished
from tests.support.progress import AtStep
from tests.support.staging import staging_root


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    folder = tmp_path_factory.mktemp("chaos")
    with open_harness(folder, seed=1, with_hub=True, measurements=1) as opened:
        yield opened


SHORT: tuple[tuple[Callable[[Harness, int], Tally], int], ...] = (
    (kill, 8),
    (interrupt, 4),
    (fill_disk, 3),
    (lock_disk, 3),
    (change_source, 4),
    (run_twice, 3),
    (stop_hub, 1),
    (kill_while_exchanging, 3),
    (tamper_with_staging, 7),
    (kill_on_tight_disk, 3),
    (kill_on_poor_disk, 3),
)


@pytest.mark.parametrize(
    ("scenario", "runs"), SHORT, ids=lambda value: getattr(value, "__name__", "")
)
def test_no_disturbance_does_harm(
    harness: Harness, scenario: Callable[[Harness, int], Tally], runs: int
) -> None:
    tally = scenario(harness, runs)
    if tally.skipped:
        pytest.skip(tally.skipped)
    assert tally.violations == []
    assert tally.runs > 0


# --- at a chosen moment, what a random one meets too seldom ---------------------------------------


@pytest.mark.parametrize("step", ["open", "check", "read back", "publish"])
def test_an_output_that_appears_while_a_run_works_is_not_replaced_without_force(
    harness: Harness, out: Path, step: str
) -> None:
    def appear() -> None:
        out.mkdir()
        (out / "precious").write_text("years of work")

    with pytest.raises(OutputError, match="exists"):
        convert(harness.source, out, device="cpu", progress=AtStep(step, appear))
    assert hashes(out).keys() == {"precious"}


def test_a_run_that_begins_while_an_old_output_is_being_removed_is_told_so(
    harness: Harness, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old OUT is where the next run would stage its files, and they would go with it."""
    shutil.copytree(harness.source, out)
    remove = shutil.rmtree
    refused: list[str] = []

    def remove_late(path: Path, **options: Any) -> None:
        if Path(path) == staging_root(out):
            try:
                convert(harness.source, out, device="cpu", force=True)
            except OutputError as error:
                refused.append(str(error))
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_late)
    convert(harness.source, out, device="cpu", force=True)
    assert len(refused) == 1
    assert "another run is writing" in refused[0]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("hardlink", [False, True])
@pytest.mark.parametrize("name", [".conv2linear-journal", "a.conv2linear-partial"])
def test_a_source_file_with_a_name_of_the_staging_folder_does_no_harm(
    harness: Harness, tmp_path: Path, out: Path, name: str, hardlink: bool
) -> None:
    source = Path(shutil.copytree(harness.source, tmp_path / "source"))
    (source / name).write_bytes(b"x" * (20 << 20))  # the largest, so that it is staged first
    before = hashes(source)
    try:
        convert(source, out, device="cpu", hardlink=hardlink, workers=1)
    except Conv2LinearError:
        assert not out.exists()
    else:
        listed = (out / "conv2linear.json").read_text()
        assert (name in listed) == (out / name).exists()
    assert hashes(source) == before


def test_a_source_file_with_the_name_of_a_shard_that_grows_does_no_harm(
    harness: Harness, tmp_path: Path, out: Path
) -> None:
    source = Path(shutil.copytree(harness.linear, tmp_path / "source"))
    (source / "conv2linear.json").unlink()  # so that the header has to be derived
    shard = shard_with(source)
    replace_header(shard, str.rstrip)  # and has no room
    (source / f"{shard.name}.longer").write_bytes(b"x" * (20 << 20))
    before = hashes(source)
    try:
        restore(source, out, hardlink=True, workers=1)
    except Conv2LinearError:
        assert not out.exists()
    else:
        assert (out / f"{shard.name}.longer").exists()
    assert hashes(source) == before


# --- the judgement finds what is planted ----------------------------------------------------------


def rename_file_by_file() -> None:
    """Plant: a system that renames a folder file by file. Runs in a process of its own."""

    def rename(self: Path, target: Path) -> None:
        target.mkdir()
        for path in sorted(self.rglob("*")):
            if path.is_file():
                copy = target / path.relative_to(self)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)
                time.sleep(0.1)
        shutil.rmtree(self)

    Path.rename = rename  # type: ignore[method-assign, assignment]
    ctypes.CDLL = lambda *_, **__: None  # type: ignore[misc, assignment]  # where renameat2 is


def test_an_output_that_appears_file_by_file_is_found(harness: Harness) -> None:
    job = harness.local_jobs[0]
    with harness.workspace(job) as torn:
        running = torn.start(plant=rename_file_by_file)
        while not list(torn.out.glob("*.safetensors")):
            assert not running.is_over()
            time.sleep(0.01)
        running.signal(signal.SIGKILL)
        torn.judge(running.wait(), codes=(-signal.SIGKILL,))
        assert any("neither absent nor whole" in violation for violation in torn.violations)


@pytest.fixture
def workspace(harness: Harness) -> Iterator[Workspace]:
    """Return a workspace in which a conversion has just succeeded, of a source of its own."""
    source = save_source(harness.folder / "own source", seed=2)
    job = harness.measured(
        Job("own", ("convert", str(source)), source, ("--device", "cpu", "--force"))
    )
    with harness.workspace(job) as own:
        own.start().wait()
        yield own
    shutil.rmtree(source)


FINE = Finished(0, "", "", 1.0)


def test_an_output_that_is_complete_is_not_a_violation(workspace: Workspace) -> None:
    assert workspace.judge(FINE, codes=(0,)) == "new"
    assert workspace.violations == []


def harm(workspace: Workspace, what: str) -> None:
    assert workspace.job.source
    shard = "model-00003-of-00006.safetensors"
    if what == "torn":
        os.truncate(workspace.out / shard, 1000)
    elif what == "missing":
        (workspace.out / shard).unlink()
    elif what == "more":
        (workspace.out / "more").touch()
    elif what == "gone":
        shutil.rmtree(workspace.out)
    elif what == "stray":
        (workspace.folder / "stray").touch()
    elif what == "source content":
        with (workspace.job.source / shard).open("r+b") as file:
            file.write(b"x")
    elif what == "source mode":
        (workspace.job.source / shard).chmod(0o640)
    elif what == "source time":
        os.utime(workspace.job.source / shard, (0, 0))


HARMS = {
    "torn": "OUT is neither absent nor whole: model-00003-of-00006.safetensors is wrong",
    "missing": "model-00003-of-00006.safetensors is missing",
    "more": "more is more",
    "gone": "the old OUT is gone",
    "stray": "stray files beside OUT: ['stray']",
    "source content": "the source has changed",
    "source mode": "the source has changed",
    "source time": "the source has changed",
}


@pytest.mark.parametrize("what", HARMS)
def test_harm_is_found(workspace: Workspace, what: str) -> None:
    harm(workspace, what)
    workspace.judge(FINE, codes=(0,))
    assert any(HARMS[what] in violation for violation in workspace.violations)


@pytest.mark.parametrize(
    ("finished", "words"),
    [
        (Finished(1, "", "", 1.0), "exit code 1"),
        (Finished(-signal.SIGSEGV, "", "", 1.0), "exit code -11"),
        (Finished(0, "Traceback (most recent call last):", "", 1.0), "Traceback"),
        (Finished(0, "error: internal error: KeyError", "", 1.0), "internal error"),
    ],
)
def test_a_run_that_ends_badly_is_found(
    workspace: Workspace, finished: Finished, words: str
) -> None:
    workspace.judge(finished, codes=(0,))
    assert words in workspace.violations[0]
