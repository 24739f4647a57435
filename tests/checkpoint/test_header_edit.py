"""A header changes in the shapes that are meant and in nothing else."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize, safe_open
from safetensors.torch import save_file

from conv2linear.checkpoint.header import (
    read_header,
)
from conv2linear.checkpoint.header_edit import (
    grow_header,
    replace_shape,
    reshape_header,
    restore_header,
    shape_text,
)
from conv2linear.errors import BadHeaderError
from conv2linear.output.patch_header import replace_header
from tests.checkpoint.headers import (
    entry,
    file_of,
    header_text,
    parse_file,
    valid_entries,
)
from tests.support.checkpoints import BIAS, WEIGHT


@settings(max_examples=300, deadline=None)
@given(valid_entries(), st.data())
def test_reshaping_changes_one_shape_and_nothing_else(
    valid: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    entries, content = valid
    names = sorted(name for name in entries if name != "__metadata__")
    if not names:
        return
    name = data.draw(st.sampled_from(names))
    text = json.dumps(entries, ensure_ascii=data.draw(st.booleans()))
    before = parse_file(file_of(text, content))
    old = before.tensors[name].shape
    size = 1
    for dim in old:
        size *= dim
    if len(str([size])) > len(shape_text(text, name)):  # a scalar grows
        return
    after = reshape_header(before, {name: (size,)})
    assert len(after.raw) == len(before.raw)
    views = dict(deserialize(file_of(after.raw, content)))
    for other, view in deserialize(file_of(before.raw, content)):
        shape = [size] if other == name else view["shape"]
        assert views[other] == {**view, "shape": shape}
    assert json.loads(after.text).get("__metadata__") == entries.get("__metadata__")
    restored = replace_shape(after.text, name, shape_text(before.text, name))
    assert restored.rstrip(" ") == before.text.rstrip(" ")


def save(path: Path) -> dict[str, torch.Tensor]:
    """Save a shard with the library itself, with names and metadata that are not ASCII."""
    tensors = {
        WEIGHT: torch.randn(8, 3, 2, 4, 4),
        "模型.视觉": torch.randn(3).bfloat16(),
        BIAS: torch.randn(8),
    }
    save_file(tensors, path, metadata={"format": "pt", "说明": "naïve 🙂"})
    return tensors


def test_a_new_header_shows_the_same_weights_in_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = save(path)
    old = path.read_bytes()
    before = read_header(path)
    after = reshape_header(before, {WEIGHT: (8, 96)})
    replace_header(path, after)
    new = path.read_bytes()
    assert len(new) == len(old)
    assert new[:8] == old[:8]
    assert new[before.data_start :] == old[before.data_start :]
    assert after.raw == new[8 : after.data_start]
    assert after.raw.endswith(b"  ")  # [8,3,2,4,4] is longer than [8,96]
    assert after.raw.count(b"[8,96]") == 1
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "说明": "naïve 🙂"}
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            expected = tensor.reshape(8, 96) if name == WEIGHT else tensor
            assert torch.equal(file.get_tensor(name), expected)


def test_a_shape_under_an_escaped_name_and_odd_spacing_is_found(tmp_path: Path) -> None:
    text = '{ "\\u0061" : { "shape" : [ 2 ,\n 1, 2 ] , "dtype":"U8", "data_offsets":[0,4] } } '
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_of(text, b"abcd"))
    header = read_header(path)
    assert shape_text(header.text, "a") == "[ 2 ,\n 1, 2 ]"
    after = reshape_header(header, {"a": (2, 2)})
    assert after.text.rstrip() == text.replace("[ 2 ,\n 1, 2 ]", "[2,2]").rstrip()
    replace_header(path, after)
    with safe_open(path, framework="pt") as file:
        assert file.get_slice("a").get_shape() == [2, 2]


def test_a_shape_in_metadata_or_in_a_field_before_is_not_mistaken_for_it() -> None:
    text = (
        '{"__metadata__":{"a":"{\\"shape\\":[2,2]}"},'
        '"a":{"x":{"shape":[2,2]},"dtype":"U8","shape":[2,1,2],"data_offsets":[0,4]}}'
    )
    header = parse_file(file_of(text, bytes(4)))
    after = reshape_header(header, {"a": (2, 2)})
    assert after.text == text.replace("[2,1,2]", "[2,2]") + "  "


def test_a_header_that_would_grow_is_refused() -> None:
    header = parse_file(file_of(header_text(entry()), bytes(4)))
    with pytest.raises(BadHeaderError, match="2 bytes longer"):
        reshape_header(header, {"a": (1, 1)})


def test_a_header_is_never_written_into_a_file_with_two_names(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(path)
    content = path.read_bytes()
    os.link(path, tmp_path / "other name")
    with pytest.raises(BadHeaderError, match="2 names"):
        replace_header(path, reshape_header(read_header(path), {WEIGHT: (8, 96)}))
    assert path.read_bytes() == content


def test_a_longer_header_moves_the_data_and_changes_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = save(path)
    header = grow_header(read_header(path), {WEIGHT: (1, 8, 1, 3, 1, 2, 1, 4, 1, 1, 1, 1, 4)})
    assert len(header.raw) > len(read_header(path).raw)
    replace_header(path, header)
    assert header.data_start % 8 == 0
    with safe_open(path, framework="pt") as file:
        for name, tensor in tensors.items():
            assert torch.equal(file.get_tensor(name).flatten(), tensor.flatten())
        assert file.get_tensor(WEIGHT).dim() == 13
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@settings(max_examples=300, deadline=None)
@given(valid_entries(), st.booleans())
def test_a_restored_header_is_the_old_one_byte_for_byte(
    valid: tuple[dict[str, Any], bytes], ensure_ascii: bool
) -> None:
    entries, content = valid
    before = parse_file(file_of(json.dumps(entries, ensure_ascii=ensure_ascii), content))
    flat = {n: (math.prod(info.shape),) for n, info in before.tensors.items() if info.shape}
    after = reshape_header(before, flat)
    assert len(after.raw) == len(before.raw)
    old = {name: shape_text(before.text, name) for name in flat}
    assert restore_header(after, old).raw == before.raw


@pytest.mark.parametrize("spaces", [0, 1, 2, 9])
def test_an_old_shape_is_put_back_where_there_is_room_for_it(spaces: int) -> None:
    header = parse_file(file_of(header_text(entry()) + " " * spaces, bytes(4)))
    if spaces < 2:
        with pytest.raises(BadHeaderError, match="do not fit: 2 bytes too long"):
            restore_header(header, {"a": "[1,1]"})
    else:
        text = header.text.replace("[1]", "[1,1]", 1)[:-2]
        assert restore_header(header, {"a": "[1,1]"}).text == text
