"""What is read back is compared in shape and in bytes, also as the library reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conv2linear.checkpoint.header import read_header
from conv2linear.errors import CheckFailedError
from conv2linear.output.readback import ExpectedTensor, hash_in_file, hash_with_library


@pytest.mark.parametrize("shape", [(6,), (3, 2), (2, 3, 1)])
def test_another_shape_than_expected_is_found_by_the_library(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1)}, path)
    header = read_header(path)
    same = {"a": ExpectedTensor((2, 3), "")}
    assert hash_with_library(path, header, same) == hash_in_file(path, header, same)
    with pytest.raises(CheckFailedError, match=r"a is \[2, 3\]"):
        hash_with_library(path, header, {"a": ExpectedTensor(shape, "")})


def test_another_list_of_tensors_is_found_by_the_library(tmp_path: Path) -> None:
    for name, tensors in (("one", {"a": torch.ones(1)}), ("two", {"b": torch.ones(1)})):
        save_file(tensors, tmp_path / name)
    with pytest.raises(CheckFailedError, match="the list of tensors has changed"):
        hash_with_library(tmp_path / "one", read_header(tmp_path / "two"), {})
