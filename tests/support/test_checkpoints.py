"""The maker of checkpoints gives what its parameters say, and the safetensors library reads it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from safetensors import safe_open

from conv2linear import convert, inspect_checkpoint
from tests.support.checkpoints import (
    BIAS,
    GLM_KERNEL,
    HOLE,
    INDEX,
    SMALL_KERNEL,
    WEIGHT,
    write_checkpoint,
)
from tests.support.contents import hashes, read_tensors, shard_with, shards_of


def test_a_checkpoint_has_the_shards_tensors_and_bytes_that_were_asked_for(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path / "a" / "model", shards=3, filler_bytes=[1000, 65_536, 24], filler_tensors=3
    )
    tensors = read_tensors(folder)
    assert [len(names(path)) for path in shards_of(folder).values()] == [3, 3, 5]
    assert tensors[WEIGHT].shape == GLM_KERNEL
    assert tensors[BIAS].shape == GLM_KERNEL[:1]
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    filler = sum(t.nbytes for name, t in tensors.items() if name not in (WEIGHT, BIAS))
    assert filler == 1000 + 65_536 + 24
    index = json.loads((folder / INDEX).read_text())
    assert index["weight_map"] == {
        name: path.name for path in shards_of(folder).values() for name in names(path)
    }
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())


def names(shard: Path) -> list[str]:
    with safe_open(shard, framework="pt") as file:
        return list(file.keys())


def test_weight_and_bias_stand_in_the_shards_that_were_asked_for(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path / "model", kernel=SMALL_KERNEL, weight_shard=1, bias_shard=0, shards=3
    )
    assert shard_with(folder).name == "model-00002-of-00003.safetensors"
    assert shard_with(folder, BIAS).name == "model-00001-of-00003.safetensors"


def test_the_seed_decides_every_value(tmp_path: Path) -> None:
    options = {"kernel": SMALL_KERNEL, "filler_bytes": 3 << 20, "filler_tensors": 5}
    first = write_checkpoint(tmp_path / "first", **options)  # type: ignore[arg-type]
    same = write_checkpoint(tmp_path / "same", **options)  # type: ignore[arg-type]
    other = write_checkpoint(tmp_path / "other", seed=1, **options)  # type: ignore[arg-type]
    assert hashes(first) == hashes(same)
    values, others = read_tensors(first), read_tensors(other)
    assert values.keys() == others.keys()
    assert not any(tensor.equal(others[name]) for name, tensor in values.items())
    fillers = [tensor for name, tensor in values.items() if name not in (WEIGHT, BIAS)]
    assert not any(one.equal(two) for one, two in pairwise(fillers) if one.shape == two.shape)


def test_a_hole_is_a_tensor_that_takes_no_space(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", kernel=SMALL_KERNEL, hole_bytes=1 << 30)
    path = shard_with(folder, HOLE)
    assert path == shard_with(folder)
    assert path.stat().st_size > 1 << 30
    assert path.stat().st_blocks * 512 < 64 << 20
    with safe_open(path, framework="pt") as file:
        assert file.get_slice(HOLE).get_shape() == [1 << 30]


def test_more_files_may_stand_in_folders_and_replace_its_own(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "assets/vocabulary.txt": b"one\ntwo\n",
        "README.md": "# Another\n",
    }
    folder = write_checkpoint(tmp_path / "model", extra_files=files, sync=True)
    assert (folder / "assets" / "vocabulary.txt").read_bytes() == b"one\ntwo\n"
    assert (folder / "README.md").read_text() == "# Another\n"


@pytest.mark.parametrize("kernel", [GLM_KERNEL, SMALL_KERNEL])
def test_a_checkpoint_can_be_converted(tmp_path: Path, kernel: tuple[int, ...]) -> None:
    source = write_checkpoint(tmp_path / "source", kernel=kernel)
    convert(source, tmp_path / "linear", device="cpu")
    assert inspect_checkpoint(tmp_path / "linear").layout == "linear"
