"""The headers of many shards are read beside each other, and the first that is wrong ends it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conv2linear.checkpoint.checkpoint import read_checkpoint
from conv2linear.errors import BadHeaderError
from conv2linear.sources.folder import Folder
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint

SHARDS = 60
FIRST, SECOND = (f"model-0000{number}-of-000{SHARDS}.safetensors" for number in (1, 2))


class WatchedFolder(Folder):
    """A folder that knows which shards were read; each read but of the first takes `delay_s`."""

    def __init__(self, path: Path, *, delay_s: float = 0) -> None:
        super().__init__(path)
        self.asked: set[str] = set()
        self._delay_s = delay_s

    def read(self, name: str, start: int, length: int) -> bytes:
        if name.endswith(".safetensors"):
            self.asked.add(name)
            time.sleep(0 if name == FIRST else self._delay_s)
        return super().read(name, start, length)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "model", shards=SHARDS, kernel=SMALL_KERNEL)
    return tmp_path / "model"


def damage(path: Path) -> None:
    """Let a header be no JSON."""
    content = bytearray(path.read_bytes())
    content[8] = ord("x")
    path.write_bytes(content)


def test_a_header_that_is_wrong_ends_the_reading(checkpoint: Path) -> None:
    damage(checkpoint / FIRST)
    folder = WatchedFolder(checkpoint, delay_s=0.2)
    with pytest.raises(BadHeaderError, match=f"{FIRST}: header is not valid JSON"):
        read_checkpoint(folder)
    assert 0 < len(folder.asked) < SHARDS / 2


def test_of_several_that_are_wrong_it_is_the_first_that_is_told(checkpoint: Path) -> None:
    damage(checkpoint / SECOND)
    (checkpoint / FIRST).write_bytes((checkpoint / FIRST).read_bytes()[:20])
    with pytest.raises(BadHeaderError, match=FIRST):
        read_checkpoint(WatchedFolder(checkpoint))


def test_all_are_read_where_none_is_wrong(checkpoint: Path) -> None:
    folder = WatchedFolder(checkpoint)
    assert len(read_checkpoint(folder).headers) == SHARDS
    assert len(folder.asked) == SHARDS
