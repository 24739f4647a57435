"""Nothing at a path is another answer than that nobody can tell."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conv2linear.errors import BadCheckpointError, OutputError, SourceUnreadableError
from conv2linear.files.status import is_folder, read_status
from conv2linear.operations.bench.plot import check_plot
from conv2linear.operations.verify.report import check_report
from conv2linear.output.target import refuse_output
from conv2linear.sources.base import FileInfo, check_unchanged
from conv2linear.sources.folder import Folder
from conv2linear.sources.open import find_local


def test_what_is_there_has_a_status_and_a_link_that_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        status = read_status(tmp_path / name)
        assert status is not None
        assert status.st_size == 3
        assert not is_folder(tmp_path / name)
    assert is_folder(tmp_path)


def test_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to("absent")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("absent", "file/below", "broken", "circle"):
        assert read_status(tmp_path / name) is None
        assert not is_folder(tmp_path / name)


def test_what_cannot_be_told_is_an_error(tmp_path: Path) -> None:
    for ask in (read_status, is_folder):
        with pytest.raises(OSError, match="File name too long") as told:
            ask(tmp_path / ("x" * 300))
        assert told.value.errno == errno.ENAMETOOLONG


def test_a_broken_link_is_no_file_that_cannot_be_read(checkpoint: Path) -> None:
    (checkpoint / "notes.txt").symlink_to("absent")
    with pytest.raises(BadCheckpointError, match=r"notes\.txt: a broken link"):
        Folder(checkpoint)


# --- what Python 3.14 does, on every Python -------------------------------------------------------


@pytest.fixture
def unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder below which nobody can tell what is there; pathlib's questions say False."""
    folder = tmp_path / "unreadable"
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if folder in path.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    def answer(path: Path, question: Callable[[Path], bool]) -> bool:
        return folder not in path.parents and question(path)

    for name in ("exists", "is_file", "is_dir"):
        question = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda path, q=question: answer(path, q))
    monkeypatch.setattr(Path, "stat", refuse)
    return folder


def test_a_file_of_a_source_that_nobody_can_tell_of(checkpoint: Path, unreadable: Path) -> None:
    checkpoint.rename(unreadable)
    with pytest.raises(OSError, match="Permission denied"):
        find_local(unreadable / "model.safetensors")
    with pytest.raises(SourceUnreadableError, match="Permission denied"):
        Folder(unreadable)
    with pytest.raises(SourceUnreadableError, match="Permission denied"):
        Folder(unreadable / "below")


def test_a_source_that_nobody_can_tell_of_any_more(checkpoint: Path, unreadable: Path) -> None:
    checkpoint.rename(unreadable)
    info = FileInfo("config.json", 1, "fingerprint", path=unreadable / "config.json")
    with pytest.raises(SourceUnreadableError, match="Permission denied"):
        check_unchanged(info)


def test_a_place_for_output_that_nobody_can_tell_of(unreadable: Path) -> None:
    with pytest.raises(OutputError, match="Permission denied"):
        refuse_output(unreadable / "folder" / "out", force=False)
    with pytest.raises(OutputError, match="Permission denied"):
        check_report(unreadable / "folder" / "report.md")
    with pytest.raises(PermissionError):
        check_plot(unreadable / "folder" / "chart.png")
