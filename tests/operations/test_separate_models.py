"""A folder of the repository that holds shards, and is a model of its own too, is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conv2linear import convert, inspect_checkpoint, verify
from tests.support.checkpoints import INDEX, SMALL_KERNEL, WEIGHT, write_checkpoint

PART = "vision_encoder"


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """Return a checkpoint that lies as Cosmos3 is published: one shard is in a part of a pipeline.

    Of the parts only the vision encoder holds the patch embedding.
    """
    folder = write_checkpoint(tmp_path / "model", shards=2, kernel=SMALL_KERNEL, filler_bytes=64)
    index = json.loads((folder / INDEX).read_text())
    kernel = index["weight_map"][WEIGHT]
    for name in set(index["weight_map"].values()):
        moved = folder / (PART if name == kernel else "transformer") / name
        moved.parent.mkdir()
        (folder / name).rename(moved)
        shutil.copy(folder / "config.json", moved.parent)
        for tensor, shard in index["weight_map"].items():
            if shard == name:
                index["weight_map"][tensor] = f"{moved.parent.name}/{name}"
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def test_a_part_of_a_pipeline_whose_shard_becomes_linear_is_named(
    pipeline: Path, out: Path
) -> None:
    conversion = convert(pipeline, out, device="cpu")
    (warning,) = conversion.warnings
    assert warning.startswith(f"{PART}/ has a config.json of its own")
    assert inspect_checkpoint(pipeline).warnings == (warning,)
    card = (out / "README.md").read_text()
    assert f"`{PART}/` has a `config.json` of its own" in card
    assert "transformer/" not in card
    assert verify(out, source=pipeline, device="cpu").passed


def test_a_folder_without_a_config_is_no_model(pipeline: Path, out: Path) -> None:
    (pipeline / PART / "config.json").unlink()
    assert convert(pipeline, out, device="cpu").warnings == ()
    assert PART not in (out / "README.md").read_text()


def test_the_folder_of_the_checkpoint_itself_is_none(tmp_path: Path, out: Path) -> None:
    write_checkpoint(tmp_path / "all" / PART, shards=1, kernel=SMALL_KERNEL, filler_bytes=64)
    assert convert(tmp_path / "all", out, subfolder=PART, device="cpu").warnings == ()
    assert "of its own" not in (out / "README.md").read_text()
