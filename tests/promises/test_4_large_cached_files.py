"""A large cached file is proven where it pays, and is not believed until then."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from conv2linear.hub.repository import HubRepository, ReadLimits
from tests.operations.push.pushes import RESHAPED, SOURCE
from tests.support.hub.upload_server import HubUploadServer

UNPROVEN = f"{RESHAPED} in the Hub's cache is damaged"


@pytest.fixture
def damaged(
    hub: HubUploadServer,
    api: HfApi,
    commit_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Return a cached shard whose header has a wrong bit."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    path = Path(api.hf_hub_download(SOURCE, RESHAPED, revision=commit_id)).resolve()
    content = bytearray(path.read_bytes())
    content[9] ^= 1
    path.write_bytes(content)
    return path


def ignore(count: int) -> None:
    """Count nothing."""


def open_with(commit_id: str, **limits: int) -> HubRepository:
    return HubRepository(SOURCE, commit_id, limits=ReadLimits(**limits))


def test_its_header_is_asked_of_the_hub(
    hub: HubUploadServer, damaged: Path, commit_id: str, source: Path
) -> None:
    repository = open_with(commit_id, hashed_at_once_bytes=0)
    right = (source / RESHAPED).read_bytes()
    with hub.recording() as log:
        assert repository.read(RESHAPED, 0, 100) == right[:100]
    assert log.sent_bytes("/cdn/*") == 100
    assert repository.warnings == ()  # nothing of it was looked at


def test_it_is_hashed_once_much_of_it_is_read(
    hub: HubUploadServer, damaged: Path, commit_id: str, source: Path
) -> None:
    repository = open_with(commit_id, hashed_at_once_bytes=0, asked_bytes=200)
    right = (source / RESHAPED).read_bytes()
    for start in range(0, 1000, 100):
        assert repository.read(RESHAPED, start, 100) == right[start : start + 100]
    (warning,) = repository.warnings
    assert UNPROVEN in warning
    damaged.write_bytes(right)
    repository = open_with(commit_id, hashed_at_once_bytes=0, asked_bytes=200)
    with hub.recording() as log:
        for start in range(0, 1000, 100):
            assert repository.read(RESHAPED, start, 100) == right[start : start + 100]
    assert log.sent_bytes("/cdn/*") == 300
    assert repository.warnings == ()


def test_a_damaged_one_is_neither_fetched_nor_linked(
    damaged: Path, commit_id: str, source: Path, tmp_path: Path
) -> None:
    repository = open_with(commit_id, hashed_at_once_bytes=0)
    assert repository.files[RESHAPED].path == damaged
    assert repository.local_path(RESHAPED, on_bytes=ignore) is None
    repository.fetch(RESHAPED, tmp_path / "out", scratch=tmp_path, on_bytes=ignore)
    assert (tmp_path / "out").read_bytes() == (source / RESHAPED).read_bytes()


def test_what_is_read_is_not_all_kept(
    hub: HubUploadServer, commit_id: str, source: Path, tmp_path: Path
) -> None:
    size = (source / RESHAPED).stat().st_size
    repository = open_with(commit_id, kept_bytes=50_000)

    def read_often() -> None:
        for _ in range(20):
            repository.read(RESHAPED, size - 100_000, 100_000)
            repository.read(RESHAPED, 8, 10_000)

    assert kept_bytes(read_often) < 300_000
    with hub.recording() as log:
        repository.fetch(RESHAPED, tmp_path / "out", scratch=tmp_path, on_bytes=ignore)
    assert log.sent_bytes("/cdn/*") == size - 10_000
    assert (tmp_path / "out").read_bytes() == (source / RESHAPED).read_bytes()


def kept_bytes(function: Callable[[], None]) -> int:
    """Return how much more memory Python holds after a call than before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        function()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
