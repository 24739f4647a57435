"""The staging folder: one run at a time, what it keeps, and how it becomes OUT."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from conv2linear.errors import Conv2LinearError, OutputError
from conv2linear.output.replacement import NewOutput
from conv2linear.output.staging import Staging
from conv2linear.output.target import WriteOptions
from tests.support.os_calls import replace_call
from tests.support.staging import staging_folder

NEW = NewOutput(frozenset({"a", "b", "new", "old", "config.json"}), "glm4v")


def test_an_output_can_be_written_by_one_run_at_a_time(out: Path) -> None:
    with (
        Staging(out, WriteOptions(), new=NEW),
        pytest.raises(OutputError, match="another run is writing"),
        Staging(out, WriteOptions(), new=NEW),
    ):
        pass
    with Staging(out, WriteOptions(), new=NEW):  # and is free again afterwards
        pass
    assert list(out.parent.iterdir()) == []


def test_a_run_that_is_refused_does_not_disturb_the_one_that_works(out: Path) -> None:
    with Staging(out, WriteOptions(), new=NEW) as working:
        working.write_text("a", "text")
        with pytest.raises(OutputError), Staging(out, WriteOptions(), new=NEW):
            pass
        working.publish()
    assert (out / "a").read_text() == "text"


def test_a_staging_folder_that_holds_something_is_kept_for_the_next_run(out: Path) -> None:
    with Staging(out, WriteOptions(), new=NEW) as first:
        first.write_text("a", "text")
        first.record("a", "what it must be")
    with Staging(out, WriteOptions(), new=NEW) as second:
        assert second.is_complete("a", "what it must be")
        assert not second.is_complete("a", "something else")
        assert not second.is_complete("b", "what it must be")
    (staging_folder(out) / "a").write_text("text")  # the same, but written anew
    with Staging(out, WriteOptions(), new=NEW) as third:
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
    with pytest.raises(OutputError, match=words), Staging(out, WriteOptions(), new=NEW):
        raise OSError(number, os.strerror(number))


def test_an_error_of_another_kind_is_passed_on(out: Path) -> None:
    with pytest.raises(Conv2LinearError, match=r"^mine$"), Staging(out, WriteOptions(), new=NEW):
        raise Conv2LinearError("mine")


def test_an_output_that_is_there_is_refused_before_anything_is_staged(out: Path) -> None:
    out.mkdir()
    with pytest.raises(OutputError, match="exists"), Staging(out, WriteOptions(), new=NEW):
        pytest.fail("entered")
    assert list(out.parent.iterdir()) == [out]


def write_old_output(out: Path) -> None:
    out.mkdir()
    (out / "config.json").write_text('{"model_type": "glm4v"}')
    (out / "model.safetensors").touch()
    (out / "old").write_text("old")


def publish_new(out: Path) -> None:
    with Staging(out, WriteOptions(force=True), new=NEW) as new:
        new.write_text("new", "new")
        new.publish()


def test_publishing_with_force_needs_no_old_output(out: Path) -> None:
    publish_new(out)
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("system", ["linux", "darwin", "linux without renameat2"])
def test_publishing_replaces_an_old_output(
    out: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(sys, "platform", system.split()[0])
    if "without" in system:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    write_old_output(out)
    publish_new(out)
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(out.parent.iterdir()) == [out]


def test_an_old_output_is_there_until_the_new_one_is(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(sorted(path.name for path in out.iterdir()))

    write_old_output(out)
    monkeypatch.setattr(os, "fsync", look)
    publish_new(out)
    assert [names for names, _ in itertools.groupby(seen)] == [
        ["config.json", "model.safetensors", "old"],
        ["new"],
    ]


def test_an_old_output_comes_back_if_it_cannot_be_replaced(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    rename = os.rename

    def fail(source: Any, target: Any, **options: Any) -> None:
        if Path(source) == staging_folder(out):
            raise OSError(errno.EIO, "planted")
        rename(source, target, **options)

    write_old_output(out)
    with monkeypatch.context() as patch:
        replace_call(patch, "rename", fail)
        with pytest.raises(OutputError, match="planted"):
            publish_new(out)
    assert (out / "old").read_text() == "old"
    publish_new(out)
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(out.parent.iterdir()) == [out]
