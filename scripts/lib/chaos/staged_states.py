"""Scenarios of what a run finds beside OUT: staged by another user, by a link, or too much."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from scripts.lib.chaos.checkpoints import save_source
from scripts.lib.chaos.harness import Harness, Tally
from scripts.lib.chaos.small_disk import NoDiskError, mounted_disk
from scripts.lib.chaos.workspace import Job, Workspace
from tests.support.contents import hashes

_ANOTHER_USER = 12345
_SPARE_BYTES = 1 << 20

Tamper = Callable[[Workspace, Path], None]
"""Changes what is staged; the folder is foreign, and what a link may lead to."""


def _own_root(workspace: Workspace, foreign: Path) -> None:
    (workspace.staging / "files").mkdir(exist_ok=True)
    for path in (workspace.staging, *workspace.staging.rglob("*")):
        os.lchown(path, _ANOTHER_USER, _ANOTHER_USER)


def _own_folder(workspace: Workspace, foreign: Path) -> None:
    folder = workspace.staging / "files"
    folder.mkdir(exist_ok=True)
    (folder / "planted.safetensors").write_bytes(b"planted")
    os.lchown(folder, _ANOTHER_USER, _ANOTHER_USER)


def _open_root(workspace: Workspace, foreign: Path) -> None:
    workspace.staging.chmod(0o777)


def _link_root(workspace: Workspace, foreign: Path) -> None:
    shutil.rmtree(workspace.staging)
    workspace.staging.symlink_to(foreign)


def _link_folder(workspace: Workspace, foreign: Path) -> None:
    for name in ("files", "partial"):
        folder = workspace.staging / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.symlink_to(foreign)


def _link_files(workspace: Workspace, foreign: Path) -> None:
    """Put a link where each file of OUT will be, to a file of the same name."""
    for name in workspace.job.expected:
        path = workspace.staging / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(foreign / Path(name).name)
    (workspace.staging / "files" / "more").symlink_to(foreign)


def _link_journal(workspace: Workspace, foreign: Path) -> None:
    for name in ("journal", "files-old", "new"):
        path = workspace.staging / name
        if not path.is_dir():
            path.unlink(missing_ok=True)
            path.symlink_to(foreign / "README.md")


_TAMPERINGS: dict[str, Tamper] = {
    "of another user": _own_root,
    "files of another user": _own_folder,
    "open to all": _open_root,
    "a link": _link_root,
    "links for its folders": _link_folder,
    "links for its files": _link_files,
    "a link for its journal": _link_journal,
}
_FOR_ROOT = (_own_root, _own_folder)


def tamper_with_staging(harness: Harness, runs: int) -> Tally:
    """Kill a run, and let the next one find what is staged in the hands of somebody else.

    It refuses, or does without; what is foreign stays as it is, and never becomes a part of OUT.
    """
    tally = Tally("staging in foreign hands")
    may_give_away = os.geteuid() == 0
    ways = [name for name, way in _TAMPERINGS.items() if may_give_away or way not in _FOR_ROOT]
    for number in range(runs):
        job, way = harness.random.choice(harness.jobs), ways[number % len(ways)]
        foreign = harness.folder / "foreign"
        shutil.copytree(harness.source, foreign)
        with harness.workspace(job) as workspace:
            running = workspace.start()
            time.sleep(harness.moment(job))
            running.signal(signal.SIGKILL)
            running.wait()
            workspace.staging.mkdir(exist_ok=True)
            _TAMPERINGS[way](workspace, foreign)
            before = hashes(foreign)
            finished = workspace.start(force=workspace.out.exists()).wait()
            outcome = workspace.judge(finished, codes=(0, 2))
            _judge_owner(workspace)
            if hashes(foreign) != before:
                workspace.violations.append("foreign files have changed")
            _remove(workspace.staging)
            workspace.judge_rerun()
            outcome = f"exit {finished.code}: {outcome}"
            tally.add(outcome, workspace.violations, of=f"{way}, {job.name}")
        shutil.rmtree(foreign)
    return tally


def _judge_owner(workspace: Workspace) -> None:
    """Check that OUT is this user's, and that there is no link in it."""
    for path in (workspace.out, *workspace.out.rglob("*")):
        if path.is_symlink():
            workspace.violations.append(f"{path.name} in OUT is a link")
        elif path.exists() and path.stat().st_uid != os.geteuid():
            workspace.violations.append(f"{path.name} in OUT is of another user")


def _remove(staging: Path) -> None:
    if staging.is_symlink():
        staging.unlink()
    elif staging.exists():
        shutil.rmtree(staging)


def kill_on_tight_disk(harness: Harness, runs: int) -> Tally:
    """Kill a run on a disk with room for one copy: the next one uses or removes what is staged.

    Every other time that is a run of another source, of which nothing is staged.
    """
    tally = Tally("kill -9 on a disk with room for one copy")
    jobs = [job for job in harness.jobs if "--hardlink" not in job.options]
    other = save_source(harness.folder / "another source", seed=3)
    convert = Job("convert", ("convert", str(other)), other, ("--device", "cpu"))
    measured = harness.measured(convert)
    size = sum(path.stat().st_size for path in harness.source.rglob("*") if path.is_file())
    try:
        with mounted_disk(harness.folder / "tight disk", size_bytes=size + _SPARE_BYTES) as disk:
            for number in range(runs):
                job = harness.random.choice(jobs)
                with harness.workspace(job, on=disk.folder) as workspace:
                    running = workspace.start()
                    time.sleep(harness.moment(job))
                    running.signal(signal.SIGKILL)
                    codes = (0, -signal.SIGKILL)
                    outcome = workspace.judge(running.wait(), codes=codes)
                    follower = workspace
                    if number % 2 and not job.is_forced:
                        follower = Workspace(workspace.folder, harness.server, measured)
                    if not outcome.startswith("new"):
                        follower.judge_rerun()
                    violations = [*workspace.violations, *follower.violations]
                    tally.add(outcome, violations, of=job.name)
    except NoDiskError as reason:
        tally.skipped = str(reason)
    shutil.rmtree(other)
    return tally
