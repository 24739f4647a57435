"""A checkpoint that the tests of OUT share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.models import TinyModel
from tests.support.staging import journaled


@pytest.fixture
def large_checkpoint(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """Return a checkpoint whose shards are large enough to be worth a line of the journal."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("glm4v", max_shard_size="1200KB"), folder)
    assert len(journaled(folder)) >= 2
    return folder
