"""What a file system lacks is done without, as `cp` does it; and it still ends whole or not."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert, restore, verify
from conv2linear.errors import OutputError
from conv2linear.files.clone import clone_file, data_bytes
from tests.support.contents import hashes, shard_with
from tests.support.os_calls import replace_call
from tests.support.processes import RunCli, obey_permissions
from tests.support.progress import AtStep
from tests.support.staging import interrupt, journal_of

LACKING = ("ENOTSUP", "EOPNOTSUPP", "ENOLCK", "ENOSYS", "EINVAL", "EBADF")


def failing(number: int, *, when: Callable[[int], bool] = lambda _: True) -> Callable[..., Any]:
    """Return a system call of a descriptor that fails; `when` tells for which it does."""

    def call(descriptor: int, *_: Any) -> None:
        if when(descriptor):
            raise OSError(number, os.strerror(number))

    return call


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize("name", LACKING)
@pytest.mark.parametrize("call", ["flock", "fsync of folders", "fsync", "ioctl", "fchmod"])
def test_a_system_call_that_is_lacking_stops_nothing(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str
) -> None:
    number = getattr(errno, name)
    if call in ("flock", "ioctl"):
        monkeypatch.setattr(fcntl, call, failing(number))
    elif call == "fsync of folders":
        monkeypatch.setattr(os, "fsync", failing(number, when=is_folder))
    else:
        monkeypatch.setattr(os, call, failing(number))
    convert(checkpoint, out, device="cpu")
    convert(checkpoint, out, device="cpu", force=True)
    restore(out, out.with_name("restored"))
    assert hashes(out.with_name("restored")) == hashes(checkpoint)


@pytest.mark.parametrize("call", ["fsync", "flock"])
def test_an_error_that_means_something_else_is_one(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os if call == "fsync" else fcntl, call, failing(errno.EIO))
    with pytest.raises(OutputError, match="Input/output error"):
        convert(checkpoint, out, device="cpu")


@pytest.mark.parametrize("count", [0, errno.EXDEV, errno.EAGAIN, errno.EINVAL, errno.EPERM])
def test_a_copy_in_the_kernel_that_fails_or_copies_nothing(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Some file systems say that they have copied all when they have copied nothing."""

    def copy(*_: Any) -> int:
        if count:
            raise OSError(count, os.strerror(count))
        return 0

    monkeypatch.setattr(os, "copy_file_range", copy)
    convert(checkpoint, out, device="cpu")
    restore(out, out.with_name("restored"))
    assert hashes(out.with_name("restored")) == hashes(checkpoint)


def test_without_locks_the_second_of_two_runs_is_told_so_all_the_same(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOTSUP))
    refused: list[OutputError] = []

    def run_second() -> None:
        with pytest.raises(OutputError, match="another run is writing") as error:
            convert(checkpoint, out, device="cpu")
        refused.append(error.value)

    convert(checkpoint, out, device="cpu", progress=AtStep("check", run_second))
    assert len(refused) == 1
    convert(checkpoint, out, device="cpu", force=True)


@pytest.fixture(params=["ext4", "ext4 without holes", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Mount an empty file system of another kind than the one of the source, maybe."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "tmpfs":
        commands = [["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]]
    else:
        image = tmp_path / "image"
        options = ["-O", "^extent,^64bit,^metadata_csum"] if "without" in request.param else []
        commands = [
            ["truncate", "--size=64M", str(image)],
            ["mkfs.ext4", "-q", "-F", *options, str(image)],
            ["mount", "-o", "loop", str(image), str(folder)],
        ]
    for command in commands:
        known = shutil.which(command[0])
        if not known or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"cannot run {command[0]} here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("hardlink", [False, True])
def test_a_real_file_system_of_each_kind(checkpoint: Path, disk: Path, hardlink: bool) -> None:
    source = Path(shutil.copytree(checkpoint, disk / "model")) if hardlink else checkpoint
    convert(source, disk / "linear", device="cpu", hardlink=hardlink)
    convert(source, disk / "linear", device="cpu", hardlink=hardlink, force=True)
    restore(disk / "linear", disk / "restored", hardlink=hardlink)
    assert hashes(disk / "restored") == hashes(checkpoint)


def add_hole(path: Path, size: int) -> None:
    """Make a file that begins and ends in a hole and has one in its middle."""
    with path.open("wb") as file:
        for start in (size // 4, size // 2):
            file.seek(start)
            file.write(b"data" * 1000)
        file.truncate(size)
    assert path.stat().st_blocks * 512 < size // 8


def test_an_output_may_have_a_name_that_is_not_utf_8(checkpoint: Path, tmp_path: Path) -> None:
    """The file system takes any bytes, the safetensors library does not."""
    out = tmp_path / os.fsdecode(b"caf\xe9")
    convert(checkpoint, out, device="cpu")
    assert verify(out, source=checkpoint, device="cpu").passed
    restore(out, tmp_path / os.fsdecode(b"\xff"))


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 5])
def test_holes_stay_holes(tmp_path: Path, size: int) -> None:
    add_hole(tmp_path / "source", size)
    told: list[int] = []
    clone_file(tmp_path / "source", tmp_path / "target", on_bytes=told.append)
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert sum(told) == size
    assert (tmp_path / "target").stat().st_blocks <= (tmp_path / "source").stat().st_blocks
    assert 8000 <= data_bytes(tmp_path / "target") < size // 8


def test_a_file_that_is_a_hole_is_copied(tmp_path: Path) -> None:
    with (tmp_path / "source").open("wb") as file:
        file.truncate(1 << 30)
    clone_file(tmp_path / "source", tmp_path / "target", on_bytes=lambda _: None)
    assert (tmp_path / "target").stat().st_size == 1 << 30
    assert data_bytes(tmp_path / "target") == 0


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_sparse_source_is_not_counted_at_its_full_size(
    checkpoint: Path, small_disk: Path
) -> None:
    resize(small_disk, "16m")
    add_hole(checkpoint / "sparse.bin", 1 << 30)
    convert(checkpoint, small_disk / "linear", device="cpu")
    assert (small_disk / "linear" / "sparse.bin").stat().st_size == 1 << 30


def test_what_a_kill_left_is_not_in_the_way_of_the_next_run(
    large_checkpoint: Path, small_disk: Path
) -> None:
    """There is room for one output, and the first run has nearly filled it."""
    total = sum(path.stat().st_size for path in large_checkpoint.iterdir())
    resize(small_disk, f"{total // 1024 + 512}k")

    interrupt(large_checkpoint, small_disk / "linear")
    journal_of(small_disk / "linear").unlink()  # nothing of it can be proven complete
    convert(large_checkpoint, small_disk / "linear", device="cpu")
    assert [path.name for path in small_disk.iterdir()] == ["linear"]


@pytest.mark.parametrize("mode", [0o000, 0o040, 0o400, 0o444, 0o4755, 0o6777, 0o1644])
def test_a_source_with_any_permissions_converts(checkpoint: Path, out: Path, mode: int) -> None:
    for path in checkpoint.iterdir():
        path.chmod(mode)
    if mode & 0o400 == 0 and os.geteuid():
        pytest.skip("only root reads such files")
    convert(checkpoint, out, device="cpu")
    for path in out.iterdir():
        assert path.stat().st_mode & 0o7000 == 0, path
        assert path.stat().st_mode & 0o600 == 0o600, path
    restore(out, out.with_name("restored"))
    assert hashes(out.with_name("restored")) == hashes(checkpoint)


def test_a_source_that_may_only_be_read(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    (checkpoint / "assets").mkdir()
    (checkpoint / "assets" / "picture.png").write_bytes(b"png")
    for path in [*checkpoint.rglob("*"), checkpoint]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for name in ("a", "b", "b"):  # the second replaces what the first has made
            done = run_cli(
                *("convert", checkpoint, out.with_name(name), "--device", "cpu", "--force"),
                preexec_fn=obey_permissions,
            )
            assert done.code == 0, done.stderr
    finally:
        for path in [checkpoint, checkpoint / "assets"]:
            path.chmod(0o755)


def test_a_source_on_a_disk_that_is_read_only(checkpoint: Path, out: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    bind = ["mount", "--bind", "-o", "ro", str(checkpoint), str(mounted)]
    if subprocess.run(bind, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount: needs root")
    try:
        convert(mounted, out, device="cpu")
        with pytest.raises(OutputError, match="another file system"):
            convert(mounted, out.with_name("linked"), device="cpu", hardlink=True)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert shard_with(out).exists()


def test_a_hard_link_that_the_system_refuses_is_said_before_the_work(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    replace_call(monkeypatch, "link", link)
    never = AtStep("check", lambda: pytest.fail("the check has begun"))
    with pytest.raises(OutputError, match="cannot be hard-linked") as refused:
        convert(checkpoint, out, device="cpu", hardlink=True, progress=never)
    assert "--hardlink" in (refused.value.hint or "")
    assert list(out.parent.iterdir()) == []
