"""Staging is this user's alone: no link is followed, and nothing that others put there appears."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

import pytest

from conv2linear import convert
from conv2linear.errors import OutputError
from conv2linear.output.replacement import NewOutput
from conv2linear.output.staging import Staging
from conv2linear.output.target import WriteOptions
from tests.support.contents import read_files
from tests.support.os_calls import replace_call
from tests.support.processes import RunCli
from tests.support.progress import AtStep
from tests.support.staging import (
    assert_converted,
    interrupt,
    journal_of,
    staging_folder,
    staging_root,
)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Return a folder that nothing may happen to."""
    folder = tmp_path / "precious"
    (folder / "assets").mkdir(parents=True)
    (folder / "config.json").write_text("years of work")
    (folder / "assets" / "picture.png").write_text("years of work")
    return folder


@pytest.mark.parametrize("inside", ["files", "partial", "journal", "files-old"])
def test_a_link_with_a_name_of_staging_is_not_followed(
    checkpoint: Path, out: Path, precious: Path, inside: str
) -> None:
    before = read_files(precious)
    staging_root(out).mkdir()
    target = precious / "config.json" if inside == "journal" else precious
    (staging_root(out) / inside).symlink_to(target)
    convert(checkpoint, out, device="cpu")
    assert_converted(checkpoint, out)
    assert read_files(precious) == before


@pytest.mark.parametrize("name", ["assets", "extra", "assets/deep"])
def test_a_link_inside_is_neither_followed_nor_published(
    checkpoint: Path, out: Path, precious: Path, name: str
) -> None:
    (checkpoint / "assets" / "deep").mkdir(parents=True)
    (checkpoint / "assets" / "picture.png").write_text("a picture")
    (checkpoint / "assets" / "deep" / "picture.png").write_text("a picture")
    before = read_files(precious)
    link = staging_folder(out) / name
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    convert(checkpoint, out, device="cpu")
    assert read_files(precious) == before
    assert_converted(checkpoint, out)


def test_a_complete_file_is_not_taken_through_a_link(
    large_checkpoint: Path, out: Path, tmp_path: Path
) -> None:
    """The journal names it, and what the link leads to is unchanged."""
    folder = interrupt(large_checkpoint, out)
    moved = folder.rename(tmp_path / "moved")
    folder.symlink_to(moved)
    before = read_files(moved)
    convert(large_checkpoint, out, device="cpu")
    assert read_files(moved) == before
    shutil.rmtree(moved)
    assert_converted(large_checkpoint, out)


@pytest.mark.parametrize("kind", ["link", "file", "folder link"])
def test_what_is_put_into_staging_during_the_run_does_not_appear(
    checkpoint: Path, out: Path, precious: Path, kind: str
) -> None:
    def plant() -> None:
        path = staging_folder(out) / "planted"
        if kind == "file":
            path.write_text("foreign")
        else:
            path.symlink_to(precious if "folder" in kind else precious / "config.json")

    with pytest.raises(OutputError, match="planted"):
        convert(checkpoint, out, device="cpu", progress=AtStep("publish", plant))
    assert not out.exists()
    convert(checkpoint, out, device="cpu")
    assert_converted(checkpoint, out)


@pytest.mark.parametrize("kind", ["other user", "open to all", "file", "link"])
def test_a_staging_folder_that_others_could_fill_is_refused(
    checkpoint: Path, out: Path, precious: Path, run_here: RunCli, kind: str
) -> None:
    root = staging_root(out)
    if kind == "file":
        root.write_text("mine")
    elif kind == "link":
        root.symlink_to(precious)
    else:
        (root / "files").mkdir(parents=True)
        (root / "files" / "left over").write_text("x")
        root.chmod(0o777 if kind == "open to all" else 0o755)
        if kind == "other user":
            os.chown(root, 65534, 65534)
    before = read_files(out.parent), read_files(precious)
    for options in ((), ("--dry-run",)):
        done = run_here("convert", checkpoint, out, "--device", "cpu", *options)
        done.assert_refused(str(root))
    assert (read_files(out.parent), read_files(precious)) == before
    assert not out.exists()


def test_staging_is_closed_to_others_and_the_output_is_not(checkpoint: Path, out: Path) -> None:
    modes: list[int] = []
    look = AtStep("publish", lambda: modes.append(staging_root(out).stat().st_mode & 0o777))
    mask = os.umask(0o027)
    try:
        convert(checkpoint, out, device="cpu", progress=look)
    finally:
        os.umask(mask)
    assert modes == [0o700]
    assert out.stat().st_mode & 0o777 == 0o750


def test_a_folder_of_an_earlier_run_gets_the_permissions_of_a_new_one(
    large_checkpoint: Path, out: Path
) -> None:
    interrupt(large_checkpoint, out).chmod(0o700)
    convert(large_checkpoint, out, device="cpu")
    (out.parent / "new").mkdir()
    assert out.stat().st_mode == (out.parent / "new").stat().st_mode


@pytest.mark.parametrize("name", [".", "..", "sub/..", "./."])
def test_an_output_named_by_dots_is_the_folder_that_they_name(
    checkpoint: Path, out: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint / "sub").mkdir()
    (checkpoint / "sub" / "picture.png").write_text("a picture")
    shutil.copytree(checkpoint, out)
    monkeypatch.chdir(out / "sub" if name == ".." else out)
    with pytest.raises(OutputError, match="exists"):
        convert(checkpoint, name, device="cpu")
    before = read_files(out)
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, name, device="cpu", force=True, progress=AtStep("check", stop))
    assert read_files(out) == before


@pytest.mark.parametrize("name", [".", "../linear"])
def test_an_old_output_that_is_the_working_directory_leaves_nothing_behind(
    checkpoint: Path, out: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves when it is replaced, and with it where relative paths lead to."""
    shutil.copytree(checkpoint, out)
    monkeypatch.chdir(out)
    convert(checkpoint, name, device="cpu", force=True)
    monkeypatch.undo()
    assert_converted(checkpoint, out)


@pytest.mark.parametrize("name", ["thesis.txt", "assets", ".hidden"])
def test_a_folder_that_only_has_the_name_of_staging_is_kept(
    checkpoint: Path, out: Path, run_here: RunCli, name: str
) -> None:
    foreign = staging_root(out) / name
    foreign.parent.mkdir(0o700)
    foreign.write_text("years of work")
    for options in ((), ("--dry-run",)):
        done = run_here("convert", checkpoint, out, "--device", "cpu", *options)
        done.assert_refused(str(staging_root(out)), name)
    assert foreign.read_text() == "years of work"
    assert not out.exists()


def stop() -> None:
    raise KeyboardInterrupt


def test_the_root_of_the_file_system_is_no_output(checkpoint: Path) -> None:
    with pytest.raises(OutputError, match="OUT is /"):
        convert(checkpoint, "/", device="cpu")


def test_an_output_may_have_the_longest_name(checkpoint: Path, out: Path) -> None:
    out = out.with_name("x" * 255)
    convert(checkpoint, out, device="cpu")
    assert list(out.parent.iterdir()) == [out]


def cut_exchange(checkpoint: Path, out: Path, *, patch: pytest.MonkeyPatch) -> None:
    """Let a run end between the two renames of a system that cannot exchange folders."""
    patch.setattr(sys, "platform", "darwin")
    patch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    rename = os.rename

    def end(source: str, target: str) -> None:
        if Path(target) == out:
            raise KeyboardInterrupt  # also where the old OUT would be put back
        rename(source, target)

    replace_call(patch, "rename", end)
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, out, device="cpu", force=True)
    assert not out.exists()


@pytest.mark.parametrize("then", ["succeeds", "fails", "is refused"])
def test_an_old_output_outlives_an_exchange_that_is_cut_short(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    shutil.copytree(checkpoint, out)
    (out / "LICENSE").write_text("the only one")
    before = read_files(out)
    with monkeypatch.context() as patch:
        cut_exchange(checkpoint, out, patch=patch)
    if then == "succeeds":
        convert(checkpoint, out, device="cpu", force=True)
        assert_converted(checkpoint, out)
        return
    if then == "fails":
        with pytest.raises(KeyboardInterrupt):
            convert(checkpoint, out, device="cpu", force=True, progress=AtStep("check", stop))
    else:
        with pytest.raises(OutputError, match="exists"):
            convert(checkpoint, out, device="cpu")
    assert read_files(out) == before


def test_an_old_output_is_not_lost_to_one_that_took_its_place(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(checkpoint, out)
    with monkeypatch.context() as patch:
        cut_exchange(checkpoint, out, patch=patch)
    shutil.copytree(checkpoint, out)
    with pytest.raises(OutputError, match="was before an interrupted run"):
        convert(checkpoint, out, device="cpu", force=True)
    assert read_files(staging_root(out) / "files-old") == read_files(checkpoint)


def test_a_hard_link_among_what_is_staged_is_not_written_to(
    large_checkpoint: Path, out: Path, tmp_path: Path
) -> None:
    folder = interrupt(large_checkpoint, out)
    foreign = tmp_path / "foreign"
    foreign.write_text("years of work")
    (folder / "config.json").unlink()
    os.link(foreign, folder / "config.json")
    journal_of(out).unlink()
    os.link(foreign, journal_of(out))
    convert(large_checkpoint, out, device="cpu")
    assert foreign.read_text() == "years of work"
    assert_converted(large_checkpoint, out)


@pytest.mark.parametrize("kind", ["link", "hard link", "folder"])
def test_a_begun_download_that_is_not_a_file_of_our_own_is_not_continued(
    out: Path, precious: Path, kind: str
) -> None:
    """To continue it would append to a file that is somebody else's."""
    with Staging(out, WriteOptions(), new=NewOutput(frozenset(), "glm4v")) as staging:
        begun, own = staging.scratch / "begun", staging.scratch / "own"
        own.write_text("the first bytes")
        (staging.scratch / "of another file").write_text("the first bytes")
        if kind == "link":
            begun.symlink_to(precious / "config.json")
        elif kind == "hard link":
            os.link(precious / "config.json", begun)
        else:
            begun.mkdir()
        staging.sweep((), downloads=("begun", "own"))
        assert list(staging.scratch.iterdir()) == [own]
    assert (precious / "config.json").read_text() == "years of work"
