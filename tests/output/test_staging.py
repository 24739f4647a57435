"""An output appears whole or not at all, whenever and however a run ends."""

from __future__ import annotations

import errno
import multiprocessing
import os
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
from conv2linear.errors import CheckFailedError, Conv2LinearError, OutputError
from conv2linear.operations import convert as conversion
from conv2linear.output import staging
from conv2linear.output import write as writing
from conv2linear.output.staging import Staging
from tests.support.contents import snapshot
from tests.support.processes import RunCli


@pytest.fixture
def large_checkpoint(tiny_model: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a checkpoint whose shards are large enough to be worth a line of the journal."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("glm4v", max_shard_size="1200KB"), folder)
    assert len(journaled(folder)) >= 2
    return folder


def journaled(folder: Path) -> list[Path]:
    """Return the files that a journal has a line for: those of 1 MiB or more."""
    return [path for path in sorted(folder.iterdir()) if path.stat().st_size >= 1 << 20]


def staging_folder(out: Path) -> Path:
    return out.parent / f".{out.name}.conv2linear" / "files"


def journal_of(folder: Path) -> Path:
    return folder.parent / "journal"


def interrupt(checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """Run a conversion that is interrupted when all is staged; return the staging folder."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_prove", stop)
        with pytest.raises(KeyboardInterrupt):
            convert(checkpoint, out, device="cpu", **options)
    assert not out.exists()
    return staging_folder(out)


def assert_converted(checkpoint: Path, out: Path) -> None:
    """Check that the output is what a run without any trouble gives, and that nothing else is."""
    expected = out.parent.parent / "expected"
    convert(checkpoint, expected, device="cpu")
    contents = [
        {name: content for name, (content, _, _) in snapshot(folder).items()}
        for folder in (expected, out)
    ]
    assert contents[0] == contents[1]
    assert list(out.parent.iterdir()) == [out]
    shutil.rmtree(expected)


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


# --- what an earlier run left ---------------------------------------------------------------------


def test_what_is_staged_and_whole_is_used_again(
    large_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = inodes(interrupt(large_checkpoint, out, monkeypatch))
    convert(large_checkpoint, out, device="cpu")
    after = inodes(out)
    for path in journaled(large_checkpoint):
        assert after[path.name] == staged[path.name]
    assert_converted(large_checkpoint, out)


def test_what_is_staged_without_a_line_in_the_journal_is_written_again(
    large_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupt(large_checkpoint, out, monkeypatch)
    for path in journaled(large_checkpoint):
        with (folder / path.name).open("r+b") as file:
            file.truncate(1_000_000)
    journal_of(folder).unlink()
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


@pytest.mark.parametrize("fault", ["changed byte", "truncated", "replaced", "removed", "folder"])
def test_what_was_touched_since_it_was_staged_is_written_again(
    large_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    folder = interrupt(large_checkpoint, out, monkeypatch)
    for path in journaled(large_checkpoint):
        staged = folder / path.name
        status, content = staged.stat(), staged.read_bytes()
        if fault == "changed byte":
            with staged.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(bytes([content[-1] ^ 1]))
        elif fault == "truncated":
            os.truncate(staged, 100)
        else:
            staged.unlink()
            if fault == "replaced":
                staged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            elif fault == "folder":
                staged.mkdir()
                (staged / "x").touch()
        if staged.exists():
            os.utime(staged, ns=(status.st_atime_ns, status.st_mtime_ns))
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


def test_what_was_staged_of_another_source_is_written_again(
    large_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(large_checkpoint, out, monkeypatch)
    for path in journaled(large_checkpoint):
        status, content = path.stat(), path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


@pytest.mark.parametrize(
    "journal", [b"", b"\xff\xfe", b"[]\n", b"{}\n1\n", b'{"name": "a"', b'{"name": [], "x": 1}\n']
)
def test_a_damaged_journal_is_no_journal(
    large_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, journal: bytes
) -> None:
    folder = interrupt(large_checkpoint, out, monkeypatch)
    journal_of(folder).write_bytes(journal)
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_hard_link_that_was_staged_is_never_written_to(
    large_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, first: bool, second: bool
) -> None:
    before = snapshot(large_checkpoint)
    interrupt(large_checkpoint, out, monkeypatch, hardlink=first)
    assert snapshot(large_checkpoint) == before
    convert(large_checkpoint, out, device="cpu", hardlink=second)
    assert snapshot(large_checkpoint) == before
    assert_converted(large_checkpoint, out)
    same = [p.name for p in large_checkpoint.iterdir() if p.samefile(out / p.name)]
    assert bool(same) == second


def test_a_shard_that_was_linked_and_is_now_reshaped_leaves_the_source_alone(
    large_checkpoint: Path, out: Path
) -> None:
    """A staging folder full of hard links to the source, as a run of another version may leave."""
    before = snapshot(large_checkpoint)
    folder = staging_folder(out)
    folder.mkdir(parents=True)
    for path in large_checkpoint.iterdir():
        os.link(path, folder / path.name)
    convert(large_checkpoint, out, device="cpu")
    assert snapshot(large_checkpoint) == before
    assert_converted(large_checkpoint, out)


def test_what_is_stale_is_swept(
    large_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (large_checkpoint / "old").mkdir()
    (large_checkpoint / "old" / "notes.txt").write_text("x")
    (large_checkpoint / "extra.bin").write_bytes(bytes(2 << 20))
    folder = interrupt(large_checkpoint, out, monkeypatch)
    (folder / "link").symlink_to("nowhere")
    shutil.rmtree(large_checkpoint / "old")
    (large_checkpoint / "extra.bin").unlink()
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


def test_a_failed_check_keeps_nothing(
    large_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(large_checkpoint, out, monkeypatch)

    def fail(*_: Any) -> None:
        raise CheckFailedError("planted")

    monkeypatch.setattr(conversion, "_prove", fail)
    with pytest.raises(CheckFailedError):
        convert(large_checkpoint, out, device="cpu")
    assert list(out.parent.iterdir()) == []


# --- on the disk before it is seen ----------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """Return a list that each sync, each line of the journal and each rename is added to."""
    events: list[tuple[str, Path]] = []
    fsync, rename, record = os.fsync, staging._rename_at_once, Staging.record

    def spy_on_fsync(descriptor: int) -> None:
        fsync(descriptor)
        events.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))

    def spy_on_rename(new: Path, target: Path, flags: int) -> bool:
        events.append(("rename", target))
        return rename(new, target, flags)

    def spy_on_record(self: Staging, name: str, fingerprint: str) -> None:
        events.append(("record", self.folder / name))
        record(self, name, fingerprint)

    monkeypatch.setattr(os, "fsync", spy_on_fsync)
    monkeypatch.setattr(staging, "_rename_at_once", spy_on_rename)
    monkeypatch.setattr(Staging, "record", spy_on_record)
    return events


def test_every_file_and_folder_is_synced_before_the_rename(
    large_checkpoint: Path, out: Path, disk: list[tuple[str, Path]]
) -> None:
    (large_checkpoint / "sub").mkdir()
    (large_checkpoint / "sub" / "file").write_text("x")
    convert(large_checkpoint, out, device="cpu")
    at = disk.index(("rename", out))
    synced = {path for what, path in disk[:at] if what == "sync"}
    for path in [out, *out.rglob("*")]:
        assert staging_folder(out) / path.relative_to(out) in synced, path
    assert ("sync", out.parent) in disk[at:]


def test_a_file_is_synced_before_the_journal_names_it(
    large_checkpoint: Path, out: Path, disk: list[tuple[str, Path]]
) -> None:
    convert(large_checkpoint, out, device="cpu", workers=1)
    recorded = [(at, path) for at, (what, path) in enumerate(disk) if what == "record"]
    assert {path.name for _, path in recorded} == {p.name for p in journaled(large_checkpoint)}
    for at, path in recorded:
        assert ("sync", path) in disk[:at]


def test_a_new_header_is_synced_before_the_journal_names_its_shard(
    large_checkpoint: Path, out: Path, disk: list[tuple[str, Path]], monkeypatch: Any
) -> None:
    replace_header = writing.replace_header

    def spy(path: Path, header: Any) -> None:
        disk.append(("header", path))
        replace_header(path, header)

    monkeypatch.setattr(writing, "replace_header", spy)
    convert(large_checkpoint, out, device="cpu", workers=1)
    at = next(i for i, (what, _) in enumerate(disk) if what == "header")
    path = disk[at][1]
    assert disk[at : at + 3] == [("header", path), ("sync", path), ("record", path)]


# --- the folder itself ----------------------------------------------------------------------------


def test_an_output_can_be_written_by_one_run_at_a_time(out: Path) -> None:
    with Staging(out), pytest.raises(OutputError, match="another run is writing"), Staging(out):
        pass
    with Staging(out):  # and is free again afterwards
        pass
    assert list(out.parent.iterdir()) == []


def test_a_run_that_is_refused_does_not_disturb_the_one_that_works(out: Path) -> None:
    with Staging(out) as working:
        working.write_text("a", "text")
        with pytest.raises(OutputError), Staging(out):
            pass
        working.publish(replace=False)
    assert (out / "a").read_text() == "text"


def test_a_staging_folder_that_holds_something_is_kept_for_the_next_run(out: Path) -> None:
    with Staging(out) as first:
        first.write_text("a", "text")
        first.record("a", "what it must be")
    with Staging(out) as second:
        assert second.is_complete("a", "what it must be")
        assert not second.is_complete("a", "something else")
        assert not second.is_complete("b", "what it must be")
    (staging_folder(out) / "a").write_text("text")  # the same, but written anew
    with Staging(out) as third:
        assert not third.is_complete("a", "what it must be")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "no space left on the disk"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only file system"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_an_error_of_the_disk_is_an_error_of_the_output(out: Path, number: int, words: str) -> None:
    with pytest.raises(OutputError, match=words), Staging(out):
        raise OSError(number, os.strerror(number))


def test_an_error_of_another_kind_is_passed_on(out: Path) -> None:
    with pytest.raises(Conv2LinearError, match=r"^mine$"), Staging(out):
        raise Conv2LinearError("mine")


def old_output(out: Path) -> None:
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "old").write_text("old")


def publish_new(out: Path) -> None:
    with Staging(out) as new:
        new.write_text("new", "new")
        new.publish(replace=True)


@pytest.mark.parametrize("system", ["linux", "darwin", "linux without renameat2"])
def test_publishing_replaces_an_old_output(
    out: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(staging.sys, "platform", system.split()[0])
    if "without" in system:
        monkeypatch.setattr(staging.ctypes, "CDLL", lambda *_, **__: object())
    old_output(out)
    publish_new(out)
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(out.parent.iterdir()) == [out]


def test_an_old_output_is_there_until_the_new_one_is(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    exchange = staging._exchange

    def spy(new: Path, old: Path) -> None:
        seen.append(sorted(path.name for path in old.iterdir()))
        exchange(new, old)
        seen.append(sorted(path.name for path in old.iterdir()))

    monkeypatch.setattr(staging, "_exchange", spy)
    old_output(out)
    publish_new(out)
    assert seen == [["config.json", "old"], ["new"]]


def test_an_old_output_comes_back_if_it_cannot_be_replaced(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging.sys, "platform", "darwin")
    rename = os.rename

    def fail(source: Any, target: Any, **options: Any) -> None:
        if Path(source) == staging_folder(out):
            raise OSError(errno.EIO, "planted")
        rename(source, target, **options)

    old_output(out)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OutputError, match="planted"):
            publish_new(out)
    assert (out / "old").read_text() == "old"
    publish_new(out)
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(out.parent.iterdir()) == [out]


# --- a run that is ended from outside -------------------------------------------------------------

SLOW = """
import sys, time
from pathlib import Path
import conv2linear.conversion as conversion
from conv2linear.checkpoint import Folder
from conv2linear.staging import Staging

def wait():
    Path(sys.argv.pop()).touch()  # tells that it is here
    time.sleep(600)

def check(*arguments, **options):
    wait()

def fetch(self, name, target, *, scratch, on_bytes):
    target.write_bytes(b"half of a fi")
    marker = Path(sys.argv[-1])
    while True:  # as a large copy does
        on_bytes(1)
        marker.touch()
        time.sleep(0.05)

moment = sys.argv.pop()
if moment == "check":
    conversion._check = check
elif moment == "write":
    Folder.fetch = fetch
elif moment == "prove":
    conversion._prove = check
else:
    Staging.publish = check
marker = sys.argv[-1]
from conv2linear.cli.app import run
sys.exit(run(sys.argv[1:-1]))
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
        command = [sys.executable, "-c", SLOW, *map(str, arguments), str(marker), moment]
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


@pytest.mark.parametrize("moment", ["check", "write", "prove", "publish"])
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


def test_a_run_that_is_killed_leaves_the_old_output_whole(
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
    process = start("convert", large_checkpoint, out, "--device", "cpu", moment="prove")
    staged = inodes(staging_folder(out))
    second = run_cli("convert", large_checkpoint, out, "--device", "cpu")
    second.assert_refused("another run is writing", str(out))
    assert process.poll() is None
    assert inodes(staging_folder(out)) == staged
    assert not out.exists()


def kill_at_random(checkpoint: Path, out: Path, *, times: int) -> int:
    """Kill conversions at random moments and check after each; return how many had finished."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["conv2linear.equivalence", "conv2linear.conversion"])
    arguments = {"device": "cpu", "force": True}
    before = snapshot(checkpoint)
    whole = shutil.copytree(checkpoint, out.parent.parent / "whole")
    convert(checkpoint, whole, **arguments)
    expected = {name: content for name, (content, _, _) in snapshot(whole).items()}
    start = time.monotonic()
    convert(checkpoint, whole, **arguments)
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
            assert {n: content for n, (content, _, _) in snapshot(out).items()} == expected
        assert {path.name for path in out.parent.iterdir()} <= {
            out.name,
            staging_folder(out).parent.name,
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
