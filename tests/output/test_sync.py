"""Everything is synced before anything relies on it, as the fsync calls of a run show."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from conv2linear import convert
from tests.support.staging import journal_of, journaled, staging_folder


@dataclass(frozen=True)
class Sync:
    """One fsync: of which path, what the journal named then, and whether OUT was there.

    `content` is what a regular file held.
    """

    path: Path
    journal: frozenset[str]
    is_published: bool
    content: bytes | None


@pytest.fixture
def syncs(out: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sync]:
    """Return a list that each fsync is added to."""
    events: list[Sync] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        journal = journal_of(out)
        lines = journal.read_text().splitlines() if journal.exists() else []
        names = frozenset(json.loads(line)["name"] for line in lines)
        content = path.read_bytes() if path.is_file() else None
        events.append(Sync(path, names, out.exists(), content))

    monkeypatch.setattr(os, "fsync", spy)
    return events


def test_every_file_and_folder_is_synced_before_the_rename(
    large_checkpoint: Path, out: Path, syncs: list[Sync]
) -> None:
    (large_checkpoint / "sub").mkdir()
    (large_checkpoint / "sub" / "file").write_text("x")
    convert(large_checkpoint, out, device="cpu")
    before = {sync.path for sync in syncs if not sync.is_published}
    for path in [out, *out.rglob("*")]:
        assert staging_folder(out) / path.relative_to(out) in before, path
    assert out.parent in {sync.path for sync in syncs if sync.is_published}


def test_a_file_is_synced_as_it_stays_before_the_journal_names_it(
    large_checkpoint: Path, out: Path, syncs: list[Sync]
) -> None:
    """For the reshaped shard that means: with its new header."""
    convert(large_checkpoint, out, device="cpu", workers=1)
    names = {path.name for path in journaled(large_checkpoint)}
    assert max((sync.journal for sync in syncs), key=len) == names
    for name in names:
        of_file = [sync for sync in syncs if sync.path == staging_folder(out) / name]
        unnamed = [sync for sync in of_file if name not in sync.journal]
        assert unnamed[-1].content == (out / name).read_bytes(), name
