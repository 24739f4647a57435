"""What an earlier run left is used again where it is complete, and never trusted otherwise."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from conv2linear import convert
from conv2linear.errors import CheckFailedError
from tests.support.contents import snapshot
from tests.support.damage import flip_bit
from tests.support.progress import AtStep
from tests.support.staging import (
    assert_converted,
    inodes,
    interrupt,
    journal_of,
    journaled,
    staging_folder,
)


def test_what_is_staged_and_complete_is_used_again(large_checkpoint: Path, out: Path) -> None:
    staged = inodes(interrupt(large_checkpoint, out))
    convert(large_checkpoint, out, device="cpu")
    after = inodes(out)
    for path in journaled(large_checkpoint):
        assert after[path.name] == staged[path.name]
    assert_converted(large_checkpoint, out)


def test_what_is_staged_without_a_line_in_the_journal_is_written_again(
    large_checkpoint: Path, out: Path
) -> None:
    folder = interrupt(large_checkpoint, out)
    for path in journaled(large_checkpoint):
        with (folder / path.name).open("r+b") as file:
            file.truncate(1_000_000)
    journal_of(out).unlink()
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


@pytest.mark.parametrize("fault", ["changed byte", "truncated", "replaced", "removed", "folder"])
def test_what_was_touched_since_it_was_staged_is_written_again(
    large_checkpoint: Path, out: Path, fault: str
) -> None:
    folder = interrupt(large_checkpoint, out)
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
    large_checkpoint: Path, out: Path
) -> None:
    interrupt(large_checkpoint, out)
    for path in journaled(large_checkpoint):
        status, content = path.stat(), path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


@pytest.mark.parametrize(
    "journal",
    [
        b"",
        b"\xff\xfe",
        b"[]\n",
        b"{}\n1\n",
        b'{"name": "a"',
        b'{"name": [], "x": 1}\n',
        b"[" * 100_000,
    ],
    ids=lambda journal: repr(journal[:8]),
)
def test_a_damaged_journal_is_not_trusted(
    large_checkpoint: Path, out: Path, journal: bytes
) -> None:
    interrupt(large_checkpoint, out)
    journal_of(out).write_bytes(journal)
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_hard_link_that_was_staged_is_never_written_to(
    large_checkpoint: Path, out: Path, first: bool, second: bool
) -> None:
    before = snapshot(large_checkpoint)
    interrupt(large_checkpoint, out, hardlink=first)
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


def test_what_is_stale_is_swept(large_checkpoint: Path, out: Path) -> None:
    (large_checkpoint / "old").mkdir()
    (large_checkpoint / "old" / "notes.txt").write_text("x")
    (large_checkpoint / "extra.bin").write_bytes(bytes(2 << 20))
    folder = interrupt(large_checkpoint, out)
    (folder / "link").symlink_to("nowhere")
    shutil.rmtree(large_checkpoint / "old")
    (large_checkpoint / "extra.bin").unlink()
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


def test_a_failed_check_keeps_nothing(large_checkpoint: Path, out: Path) -> None:
    folder = interrupt(large_checkpoint, out)

    def damage() -> None:
        flip_bit(folder)

    with pytest.raises(CheckFailedError, match="bytes of"):
        convert(large_checkpoint, out, device="cpu", progress=AtStep("read back", damage))
    assert list(out.parent.iterdir()) == []
