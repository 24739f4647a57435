"""Where a view is written: where TMPDIR says, never beside the checkpoint, and gone in the end."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from conv2linear.checkpoint.config import parse_config
from conv2linear.checkpoint.header import Header, TensorInfo
from conv2linear.errors import OutputError, SourceChangedError
from conv2linear.operations.verify.view_folder import ViewFolder
from conv2linear.plan.engine_view import EngineView, plan_view
from conv2linear.progress import NoProgress
from tests.support.progress import SeenProgress

USAGE = namedtuple("USAGE", "total used free")


def view() -> EngineView:
    tensors = {"a.weight": TensorInfo("U8", (40,), (0, 40))}
    return plan_view(parse_config('{"model_type": "glm4v"}'), {"x": Header("{}", tensors)})


def content(shard: str, start: int, length: int) -> bytes:
    """Be a shard of the bytes 0, 1, 2, ... that gives at most 16 of them at once."""
    first = start - Header("{}", {}).data_start
    return bytes(range(first, first + min(length, 16)))


def write(folder: ViewFolder, *, checkpoint: Path | None = None) -> Path:
    return folder.write(view(), content, checkpoint=checkpoint, progress=NoProgress())


def test_a_view_lies_where_tmpdir_says_and_is_gone_in_the_end(temporary: Path) -> None:
    with ViewFolder() as folder:
        path = write(folder)
        assert path.is_relative_to(temporary)
        assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
        assert (path / "model.safetensors").read_bytes() == view().header + bytes(range(40))
        assert path.parent.stat().st_mode & 0o077 == 0
    assert list(temporary.iterdir()) == []


def test_a_second_engine_gets_the_same_view_and_an_exchange_of_its_own(temporary: Path) -> None:
    with ViewFolder() as folder:
        path = write(folder)
        assert write(folder) == path
        assert folder.exchange() != folder.exchange()
        assert len(list(path.iterdir())) == 2
    assert list(temporary.iterdir()) == []


def test_what_is_copied_is_told_with_its_size(temporary: Path) -> None:
    progress = SeenProgress()
    with ViewFolder() as folder:
        folder.write(view(), content, checkpoint=None, progress=progress)
    assert progress.steps == ["copy what the engine loads"]
    assert progress.moved_bytes == 40


def test_nothing_is_written_where_no_engine_asks(temporary: Path) -> None:
    with ViewFolder():
        assert list(temporary.iterdir()) == []


def test_a_view_never_lies_in_the_checkpoint(temporary: Path) -> None:
    for checkpoint in (temporary, temporary.parent):
        with (
            ViewFolder() as folder,
            pytest.raises(OutputError, match="would lie in the checkpoint") as caught,
        ):
            write(folder, checkpoint=checkpoint)
        assert "TMPDIR" in (caught.value.hint or "")
    assert list(temporary.iterdir()) == []


def test_a_disk_without_room_is_named_before_anything_is_written(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(1000, 990, 10))
    with ViewFolder() as folder, pytest.raises(OutputError, match=r"0\.00 GB are free") as caught:
        write(folder)
    assert str(temporary) in str(caught.value)
    assert "TMPDIR" in (caught.value.hint or "")
    assert list(temporary.iterdir()) == []


def test_a_shard_that_ends_early_leaves_nothing(temporary: Path) -> None:
    with ViewFolder() as folder:
        with pytest.raises(SourceChangedError, match=r"x: cut off inside 'a\.weight'"):
            folder.write(view(), lambda *_: b"", checkpoint=None, progress=NoProgress())
        assert list(temporary.iterdir()) == []
