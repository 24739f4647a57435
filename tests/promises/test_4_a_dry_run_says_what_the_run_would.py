"""`convert --dry-run` ends as the run itself would, and writes nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conv2linear.files.lock import FolderLock
from tests.support.damage import edit_json
from tests.support.processes import Finished, RunCli, obey_permissions
from tests.support.staging import staging_root


def entries(folder: Path) -> dict[str, tuple[int, int]]:
    """Return when each file and folder was last changed; reading leaves that."""
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mtime_ns, path.lstat().st_ino)
        for path in [folder, *folder.rglob("*")]
    }


def both(run: RunCli, *arguments: str | Path, source: Path, place: Path, **kept: object) -> None:
    """Check that plan and run are refused with the same words, and that both leave all as it is."""
    before = entries(source), entries(place)
    planned: Finished = run("convert", *arguments, "--dry-run", **kept)
    assert (entries(source), entries(place)) == before
    planned.assert_refused()
    done: Finished = run("convert", "--device", "cpu", *arguments, **kept)
    assert (planned.code, planned.stderr) == (done.code, done.stderr)


def make_folder(checkpoint: Path, out: Path) -> None:
    out.mkdir()


def make_other(checkpoint: Path, out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("years")


def make_repository(checkpoint: Path, out: Path) -> None:
    shutil.copytree(checkpoint, out)
    (out / ".git").mkdir()


def make_foreign_staging(checkpoint: Path, out: Path) -> None:
    staging_root(out).mkdir()
    os.chown(staging_root(out), 65534, 65534)


REFUSED: dict[str, tuple[Callable[[Path, Path], object], tuple[str, ...]]] = {
    "exists": (make_folder, ()),
    "is not a checkpoint": (make_other, ("--force",)),
    "is a repository": (make_repository, ("--force",)),
    "is the source": (lambda checkpoint, out: out.symlink_to(checkpoint), ("--force",)),
    "is whole": (shutil.copytree, ("--force", "--changed-only")),
    "is below nothing": (lambda checkpoint, out: out.parent.rmdir(), ()),
    "has a foreign staging folder": (make_foreign_staging, ()),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_output_that_the_run_refuses(
    checkpoint: Path, out: Path, case: str, run_here: RunCli
) -> None:
    plant, options = REFUSED[case]
    plant(checkpoint, out)
    both(run_here, checkpoint, out, *options, source=checkpoint, place=out.parents[1])


def refuse_to_lock(*_: object) -> None:
    """Do as a file system without locks does."""
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


@pytest.mark.parametrize("has_locks", [True, False])
def test_an_output_that_another_run_is_writing(
    checkpoint: Path,
    out: Path,
    has_locks: bool,
    run_here: RunCli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", refuse_to_lock)
    staging_root(out).mkdir(mode=0o700)
    descriptor = os.open(staging_root(out), os.O_RDONLY)
    lock = FolderLock(descriptor)
    both(run_here, checkpoint, out, source=checkpoint, place=out.parent)
    lock.release()
    os.close(descriptor)
    assert run_here("convert", checkpoint, out, "--dry-run").code == 0
    assert run_here("convert", checkpoint, out, "--device", "cpu").code == 0


def test_a_folder_that_is_held_for_a_moment_only(tmp_path: Path) -> None:
    """A plan that looks for another run does not stop one that begins just then."""
    descriptors = [os.open(tmp_path, os.O_RDONLY) for _ in range(2)]
    fcntl.flock(descriptors[0], fcntl.LOCK_EX)
    timer = threading.Timer(0.005, os.close, [descriptors[0]])
    timer.start()
    FolderLock(descriptors[1]).release()
    timer.join()
    os.close(descriptors[1])


@pytest.mark.parametrize("name", [".", "linear", ".."])
def test_an_output_that_overlaps_with_the_source(
    checkpoint: Path, name: str, run_here: RunCli
) -> None:
    place = checkpoint / name
    both(run_here, checkpoint, place, "--force", source=checkpoint, place=checkpoint.parent)


def test_an_output_without_a_name(checkpoint: Path, run_here: RunCli) -> None:
    both(run_here, checkpoint, "", source=checkpoint, place=checkpoint.parent)


def test_a_disk_that_is_too_small(checkpoint: Path, small_disk: Path, run_here: RunCli) -> None:
    both(run_here, checkpoint, small_disk / "linear", source=checkpoint, place=small_disk)


def test_hard_links_to_another_disk(checkpoint: Path, small_disk: Path, run_here: RunCli) -> None:
    arguments = (checkpoint, small_disk / "linear", "--hardlink")
    both(run_here, *arguments, source=checkpoint, place=small_disk)


def test_hard_links_to_another_mount_of_the_same_disk(
    checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "mounted").mkdir()
    bind = ["mount", "--bind", str(tmp_path / "place"), str(tmp_path / "mounted")]
    if subprocess.run(bind, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount: needs root")
    try:
        out = tmp_path / "mounted" / "linear"
        both(run_here, checkpoint, out, "--hardlink", source=checkpoint, place=tmp_path / "place")
    finally:
        subprocess.run(["umount", str(tmp_path / "mounted")], check=True)


def test_a_folder_that_may_not_be_written(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    out.parent.chmod(0o555)
    both(run_cli, checkpoint, out, source=checkpoint, place=out.parent, preexec_fn=obey_permissions)
    out.parent.chmod(0o755)


def test_a_disk_that_is_read_only(checkpoint: Path, small_disk: Path, run_here: RunCli) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    both(run_here, checkpoint, small_disk / "linear", source=checkpoint, place=small_disk)


def test_a_source_that_may_not_be_read(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    (checkpoint / "notes.txt").write_text("x")
    (checkpoint / "notes.txt").chmod(0)
    both(run_cli, checkpoint, out, source=checkpoint, place=out.parent, preexec_fn=obey_permissions)


@pytest.mark.parametrize("device", ["gpu", "meta", "", "cuda:999"])
def test_a_device_that_is_not_there(
    checkpoint: Path, out: Path, device: str, run_here: RunCli
) -> None:
    arguments = (checkpoint, out, "--device", device)
    both(run_here, *arguments, source=checkpoint, place=out.parent)


@pytest.mark.parametrize("options", [(), ("--hardlink",), ("--changed-only",), ("--force",)])
def test_a_plan_that_can_be_done_is_one_and_nothing_is_written(
    checkpoint: Path, out: Path, options: tuple[str, ...], run_here: RunCli
) -> None:
    before = entries(checkpoint), entries(out.parent)
    assert run_here("convert", checkpoint, out, "--dry-run", *options).code == 0
    assert (entries(checkpoint), entries(out.parent)) == before
    assert run_here("convert", checkpoint, out, "--device", "cpu", *options).code == 0


def test_the_warnings_of_a_run(checkpoint: Path, out: Path, run_here: RunCli) -> None:
    (checkpoint / "README.md").write_text("---\ntags: [a\n---\n")
    planned = run_here("convert", checkpoint, out, "--dry-run")
    done = run_here("convert", checkpoint, out, "--device", "cpu")
    (warning,) = (line for line in done.stderr.splitlines() if line.startswith("warning: "))
    assert "not valid YAML" in warning
    assert planned.stderr == f"{warning}\n"


@pytest.mark.parametrize("loaders", ["transformers,vllm", "vllm"])
def test_a_fusion_for_which_verify_would_fail_the_result(
    checkpoint: Path, out: Path, loaders: str, run_here: RunCli
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c.update(fusion_config={"another": True}))
    both(run_here, checkpoint, out, "--for", loaders, source=checkpoint, place=out.parent)
