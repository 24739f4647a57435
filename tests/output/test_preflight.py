"""Whether there is space for OUT, and files can be linked, is seen before anything is done."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert
from conv2linear.errors import OutputError
from conv2linear.output.preflight import refuse_impossible
from conv2linear.output.replacement import NewOutput
from conv2linear.output.target import WriteOptions
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.sources.base import FileInfo
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint
from tests.support.contents import hashes
from tests.support.os_calls import replace_call
from tests.support.staging import staging_folder

NEW = NewOutput(frozenset({"a", "b"}), "glm4v")
KIB = 1 << 10


def planned(name: str, size_bytes: int, path: Path | None = None) -> PlannedFile:
    info = FileInfo(name, size_bytes, "fingerprint", path=path)
    return PlannedFile(info, Action.COPY, size_bytes)


def refuse(out: Path, *files: PlannedFile, hardlink: bool = False) -> None:
    refuse_impossible(files, out, WriteOptions(hardlink=hardlink), new=NEW)


@pytest.mark.parametrize(("more", "is_refused"), [(0, False), (1, True)])
def test_a_disk_may_be_filled_to_its_last_byte(
    small_disk: Path, tmp_path: Path, more: int, is_refused: bool
) -> None:
    sparse = tmp_path / "source" / "sparse"
    sparse.parent.mkdir()
    sparse.write_bytes(b"x" * (4 * KIB))
    os.truncate(sparse, 64 * KIB)  # the rest is a hole, of which a copy is one too
    free = shutil.disk_usage(small_disk).free
    remote = planned("a", free - 4 * KIB + more)
    files = [remote, planned("b", 64 * KIB, sparse)]
    if is_refused:
        with pytest.raises(OutputError, match=r"needed, .* free, 1 byte too little"):
            refuse(small_disk / "out", *files)
    else:
        refuse(small_disk / "out", *files)


@pytest.mark.parametrize("is_linked", [False, True])
def test_what_is_staged_counts_as_free_where_removing_it_frees_something(
    small_disk: Path, is_linked: bool
) -> None:
    out = small_disk / "out"
    staged = staging_folder(out) / "a"
    staged.parent.mkdir(parents=True)
    staged.parent.parent.chmod(0o700)
    staged.write_bytes(bytes(512 * KIB))
    if is_linked:
        os.link(staged, small_disk / "of somebody else")
        with pytest.raises(OutputError, match="no space"):
            refuse(out, planned("a", 700 * KIB))
    else:
        refuse(out, planned("a", 700 * KIB))
        with pytest.raises(OutputError, match="no space"):
            refuse(out, planned("a", 1100 * KIB))


@pytest.mark.parametrize("mode", [0o644, 0o400, 0o4755, 0o2755])
def test_an_own_file_can_be_linked_whatever_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "source" / "a"
    path.parent.mkdir()
    path.write_bytes(b"x")
    path.chmod(mode)
    refuse(tmp_path / "out", planned("a", 1, path), hardlink=True)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EMLINK, r"cannot be hard-linked: Too many links")],
)
def test_a_link_that_cannot_be_made_is_an_error_that_says_why(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    source = write_checkpoint(tmp_path / "source", shards=2, kernel=SMALL_KERNEL)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    replace_call(monkeypatch, "link", fail)
    with pytest.raises(OutputError, match=words):
        convert(source, out, device="cpu", hardlink=True)
    assert not out.exists()


def test_a_checkpoint_may_have_one_file_only_to_link(tmp_path: Path, out: Path) -> None:
    source = write_checkpoint(tmp_path / "source", shards=2, kernel=SMALL_KERNEL)
    convert(source, tmp_path / "copied", device="cpu")
    convert(source, out, device="cpu", hardlink=True)
    linked = [path.name for path in out.iterdir() if path.stat().st_nlink == 2]
    assert len(linked) == 2  # the index, and the shard without the patch embedding
    (source / linked[0]).unlink()
    assert hashes(out) == hashes(tmp_path / "copied")
