"""What is read back is compared in shape and in bytes, also as the library reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conv2linear import convert, restore
from conv2linear.checkpoint.header import Header, read_header
from conv2linear.errors import CheckFailedError
from conv2linear.output.readback import check_with_library
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint
from tests.support.contents import shard_with


def read_two(folder: Path, **tensors: torch.Tensor) -> tuple[Path, Header]:
    """Save two files, and return the first with the header of the second."""
    save_file({"a": torch.zeros(2, 3), "b": torch.ones(1)}, folder / "one")
    save_file(tensors, folder / "two")
    return folder / "one", read_header(folder / "two")


def test_the_library_finds_what_the_header_says(tmp_path: Path) -> None:
    path, header = read_two(tmp_path, a=torch.ones(2, 3), b=torch.ones(1))
    check_with_library(path, header)


@pytest.mark.parametrize("shape", [(6,), (3, 2), (2, 3, 1)])
def test_another_shape_than_expected_is_found_by_the_library(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path, header = read_two(tmp_path, a=torch.zeros(shape), b=torch.ones(1))
    with pytest.raises(CheckFailedError, match=r"a is F32 \[2, 3\], expected F32 \["):
        check_with_library(path, header)


def test_another_dtype_than_expected_is_found_by_the_library(tmp_path: Path) -> None:
    path, header = read_two(tmp_path, a=torch.zeros(2, 3, dtype=torch.int32), b=torch.ones(1))
    with pytest.raises(CheckFailedError, match=r"a is F32 .*, expected I32"):
        check_with_library(path, header)


def test_another_list_of_tensors_is_found_by_the_library(tmp_path: Path) -> None:
    path, header = read_two(tmp_path, a=torch.zeros(2, 3))
    with pytest.raises(CheckFailedError, match="the list of tensors has changed"):
        check_with_library(path, header)


def test_a_file_that_the_library_refuses_is_not_as_planned(tmp_path: Path) -> None:
    path, header = read_two(tmp_path, a=torch.zeros(2, 3), b=torch.ones(1))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckFailedError, match="was not written as planned"):
        check_with_library(path, header)


def test_a_shard_larger_than_the_memory_is_read_back(tmp_path: Path) -> None:
    source = write_checkpoint(
        tmp_path / "source", kernel=SMALL_KERNEL, shards=1, filler_bytes=8, hole_bytes=1 << 37
    )
    convert(source, tmp_path / "linear", device="cpu")
    restore(tmp_path / "linear", tmp_path / "restored")
    shard = shard_with(tmp_path / "restored")
    assert shard.stat().st_size > 1 << 37
    assert shard.stat().st_blocks * 512 < 64 << 20  # its hole was not filled
