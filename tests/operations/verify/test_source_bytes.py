"""Bytes are compared wherever they lie, and the tensor that differs is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear.checkpoint.checkpoint import open_checkpoint
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.source_bytes import (
    Comparison,
    compare_file,
    compare_shard,
    run_comparisons,
)
from conv2linear.operations.verify.subject import Options
from conv2linear.sources.folder import Folder
from tests.support.contents import byte_range, header_of, other_shard
from tests.support.damage import flip_bit

MEGABYTE = 1 << 20


def compare(linear: Path, source: Path, shard: Path) -> int:
    """Compare one shard, and return how many bytes were counted."""
    return run(compare_shard(open_checkpoint(linear), open_checkpoint(source), shard.name))


def run(comparisons: Iterable[Comparison]) -> int:
    """Compare, and return how many bytes were counted: as many as were to be read."""
    counted: list[int] = []
    for comparison in comparisons:
        before = sum(counted)
        comparison.run(counted.append)
        assert sum(counted) - before == comparison.size_bytes
    return sum(counted)


def turn_order(shard: Path) -> list[str]:
    """Write the tensors in another order than the source has, and return their names by place."""
    names = [name for name in header_of(shard) if name != "__metadata__"]
    names.sort(key=lambda name: byte_range(shard, name))
    tensors = load_file(shard)
    # safetensors puts wider types first: a dtype of one tensor decides where it lies.
    padded = {name: tensors[name] for name in names}
    padded[names[-1]] = padded[names[-1]].view(torch.float32)
    save_file(padded, shard, metadata={"format": "pt"})
    turned = sorted(names, key=lambda name: byte_range(shard, name))
    assert turned[0] == names[-1]
    return turned


def test_equal_shards_are_equal_and_every_byte_is_counted(linear: Path, source: Path) -> None:
    shard = other_shard(linear)
    names = [name for name in header_of(shard) if name != "__metadata__"]
    ranges = [byte_range(shard, name) for name in names]
    assert compare(linear, source, shard) == sum(end - start for start, end in ranges)


def test_tensors_in_another_order_are_equal_and_each_difference_is_found(
    linear: Path, source: Path
) -> None:
    shard = other_shard(linear)
    for name in turn_order(shard):
        assert compare(linear, source, shard)
        for byte in (0, byte_range(shard, name)[1] - byte_range(shard, name)[0] - 1):
            flip_bit(linear, name, at=byte)
            with pytest.raises(CheckFailedError, match=f"tensor '{name}' is not that of the"):
                compare(linear, source, shard)
            flip_bit(linear, name, at=byte)


@pytest.mark.parametrize("place", [0, MEGABYTE - 1, MEGABYTE, 2 * MEGABYTE + 4])
def test_a_file_is_compared_beyond_one_reading(place: int, tmp_path: Path) -> None:
    content = bytes(2 * MEGABYTE + 5)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    assert run(compare_file(one, two, "file")) == len(content)
    (tmp_path / "two" / "file").write_bytes(content[:place] + b"x" + content[place + 1 :])
    with pytest.raises(CheckFailedError, match="file is not that of the source"):
        run(compare_file(one, two, "file"))


def test_two_files_that_were_cut_meanwhile_are_not_equal(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    for name in ("one", "two"):
        (tmp_path / name / "file").write_bytes(b"")
    with pytest.raises(CheckFailedError, match="file is not that of the source"):
        run(compare_file(one, two, "file"))


def test_nothing_is_read_of_two_hard_links_of_one_file(linear: Path, source: Path) -> None:
    shard = other_shard(linear)
    shard.unlink()
    shard.hardlink_to(source / shard.name)
    assert compare(linear, source, shard) == 0


@pytest.mark.parametrize("workers", [1, 4])
def test_of_several_differences_the_first_is_told(
    workers: int, linear: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(linear, tmp_path / "other"))
    names = sorted(path.name for path in linear.glob("*.safetensors"))
    assert len(names) > 2
    for name in names[1:]:
        with (other / name).open("rb+") as file:
            file.seek(-1, 2)
            last = file.read(1)
            file.seek(-1, 2)
            file.write(bytes([last[0] ^ 1]))
    ours, theirs = open_checkpoint(linear), open_checkpoint(other)
    for _ in range(20):
        comparisons = [each for name in names for each in compare_shard(ours, theirs, name)]
        with pytest.raises(CheckFailedError, match=f"^{names[1]}: tensor "):
            run_comparisons(Options(workers=workers), comparisons)
