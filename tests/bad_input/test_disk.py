"""A disk that is full, read-only or another one, and files without permission: one line each."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conv2linear import convert
from conv2linear.errors import OutputError
from tests.support.checkpoints import INDEX
from tests.support.contents import shard_with, snapshot
from tests.support.processes import Refuse, RunCli, obey_permissions
from tests.support.progress import AtStep, SeenProgress


def resize(disk: Path, size: str) -> None:
    """Give a mounted tmpfs another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def fill(disk: Path, *, free_bytes: int) -> None:
    """Write a file that leaves so many bytes free."""
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - free_bytes)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    checkpoint: Path, small_disk: Path, run_here: RunCli
) -> None:
    before = snapshot(checkpoint)
    done = run_here("convert", checkpoint, small_disk / "linear", "--device", "cpu")
    done.assert_refused("no space", str(small_disk))
    seen = SeenProgress()
    with pytest.raises(OutputError, match="no space"):
        convert(checkpoint, small_disk / "linear", device="cpu", progress=seen)
    assert seen.steps == ["open"]
    assert list(small_disk.iterdir()) == []
    assert snapshot(checkpoint) == before


def test_a_disk_that_fills_up_while_it_is_written(
    checkpoint: Path, small_disk: Path, run_here: RunCli
) -> None:
    before = snapshot(checkpoint)
    resize(small_disk, "64m")
    filled = AtStep("write", lambda: fill(small_disk, free_bytes=1 << 20))
    with pytest.raises(OutputError, match="no space left on the disk") as refused:
        convert(checkpoint, small_disk / "linear", device="cpu", progress=filled)
    assert filled.happened
    assert "run again" in (refused.value.hint or "")
    assert not (small_disk / "linear").exists()
    assert snapshot(checkpoint) == before
    (small_disk / "filler").unlink()
    assert run_here("convert", checkpoint, small_disk / "linear", "--device", "cpu").code == 0
    assert [path.name for path in small_disk.iterdir()] == ["linear"]


def test_a_folder_that_may_not_be_written(
    checkpoint: Path, small_disk: Path, run_here: RunCli
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run_here("convert", checkpoint, small_disk / "linear", "--device", "cpu")
    done.assert_refused("Read-only file system")
    assert "hint: " in done.stderr


def test_files_that_may_not_be_read_and_folders_that_may_not_be_written(
    checkpoint: Path, out: Path, run_cli: RunCli
) -> None:
    out.parent.chmod(0o555)
    done = run_cli("convert", checkpoint, out, preexec_fn=obey_permissions)
    done.assert_refused("Permission denied")
    out.parent.chmod(0o755)
    shard_with(checkpoint).chmod(0)
    done = run_cli("convert", checkpoint, out, preexec_fn=obey_permissions)
    done.assert_refused("Permission denied")
    assert list(out.parent.iterdir()) == []


def test_permission_that_is_denied_is_one_line_with_a_hint(
    checkpoint: Path, out: Path, run_cli: RunCli
) -> None:
    (checkpoint / "config.json").chmod(0)
    done = run_cli("convert", checkpoint, out, preexec_fn=obey_permissions)
    done.assert_refused("config.json", "Permission denied")
    assert "hint: " in done.stderr
    assert list(out.parent.iterdir()) == []


def test_hard_links_across_file_systems(
    checkpoint: Path, small_disk: Path, run_here: RunCli
) -> None:
    done = run_here("convert", checkpoint, small_disk / "linear", "--hardlink", "--device", "cpu")
    done.assert_refused("another file system")
    assert "--hardlink" in done.stderr
    assert list(small_disk.iterdir()) == []


ASKED_FOR = ("shard", "config", "index")  # in the place of another file a folder may stand
KINDS = ("named pipe", "broken link", "link to itself")


@pytest.mark.parametrize(
    ("which", "kind"),
    [
        *((which, kind) for which in (*ASKED_FOR, "other file") for kind in KINDS),
        *((which, "folder") for which in ASKED_FOR),
    ],
)
def test_a_file_that_is_not_a_regular_file(
    checkpoint: Path, refuse: Refuse, which: str, kind: str
) -> None:
    path = {
        "shard": shard_with(checkpoint),
        "config": checkpoint / "config.json",
        "index": checkpoint / INDEX,
        "other file": checkpoint / "generation_config.json",
    }[which]
    path.unlink()
    if kind == "named pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere" if kind == "broken link" else path.name)
    refuse(*([path.name] if kind != "folder" else []))
