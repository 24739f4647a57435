"""Nothing at a path is another answer than that nobody can tell."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from conv2linear.errors import BadCheckpointError
from conv2linear.files.status import is_folder, read_status
from conv2linear.sources.folder import Folder


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
