"""A folder counts as this user's alone only if nobody else may have put something in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from conv2linear.errors import OutputError
from conv2linear.output.private import refuse_foreign_folder


@pytest.mark.parametrize(
    ("mode", "is_refused"), [(0o700, False), (0o755, False), (0o770, True), (0o707, True)]
)
def test_a_folder_that_others_may_write_is_refused(
    tmp_path: Path, mode: int, is_refused: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    if is_refused:
        with pytest.raises(OutputError, match="not only this user"):
            refuse_foreign_folder(folder)
    else:
        refuse_foreign_folder(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_where_every_folder_is_open_that_of_this_user_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems keep no modes: every folder is open to all, a new one too."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o777)
    look = os.fstat

    def look_open(descriptor: int) -> os.stat_result:
        found = list(look(descriptor))
        found[stat.ST_MODE] = int(found[stat.ST_MODE]) | 0o777
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", look_open)
    refuse_foreign_folder(folder)
