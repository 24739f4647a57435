"""Headers are accepted, refused and edited as the `safetensors` library itself would have it."""

from __future__ import annotations

import json
import math
import os
import string
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import save_file

from conv2linear.checkpoint.header import (
    DTYPE_BITS,
    MAX_HEADER_BYTES,
    Header,
    header_length,
    parse_header,
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
from tests.support.checkpoints import BIAS, WEIGHT


def file_of(header: bytes | str | dict[str, Any], data: bytes = b"") -> bytes:
    """Put a file together."""
    if isinstance(header, dict):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + data


def parse_file(content: bytes) -> Header:
    """Parse the header of a whole file that is in memory."""
    length = header_length(content[:8], file_bytes=len(content), label="file")
    return parse_header(content[8 : 8 + length], file_bytes=len(content), label="file")


def library_accepts(content: bytes) -> bool:
    """Ask the library."""
    try:
        deserialize(content)
    except SafetensorError:
        return False
    return True


def is_stricter_here(content: bytes) -> bool:
    """Tell whether a file the library accepts is one that is refused here, as documented.

    A key that stands twice; a tensor that is described by a list; a dtype that is no string.
    """
    twice = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.append(len(dict(items)) != len(items))
        return dict(items)

    entries = json.loads(
        content[8 : 8 + int.from_bytes(content[:8], "little")], object_pairs_hook=pairs
    )
    entries.pop("__metadata__", None)
    is_odd = (not isinstance(e, dict) or not isinstance(e["dtype"], str) for e in entries.values())
    return any(twice) or any(is_odd)


def assert_agreement(content: bytes) -> None:
    """Check that the file is accepted here exactly where the library accepts it."""
    accepted = library_accepts(content)
    header, reason = None, None
    try:
        header = parse_file(content)
    except BadHeaderError as error:
        reason = error
    if header is None:
        assert not accepted or is_stricter_here(content), f"refused only here: {reason}"
        return
    assert accepted, f"accepted only here: {content[:300]!r}"
    assert not is_stricter_here(content)
    for name, view in deserialize(content):
        assert header.tensors[name].dtype == view["dtype"]
        assert header.tensors[name].shape == tuple(view["shape"])
        start, end = header.byte_range(name)
        assert content[start:end] == bytes(view["data"])


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DIMS = st.lists(st.integers(0, 5), max_size=4)


@st.composite
def valid_entries(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Draw the entries of a header that is right, and its data."""
    entries: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        dtype = draw(st.sampled_from(sorted(DTYPE_BITS)))
        bits = DTYPE_BITS[dtype]
        shape = draw(DIMS) + ([4] if bits % 8 else [])
        for dim in shape:
            bits *= dim
        entry = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + bits // 8]}
        if name != "__metadata__":
            entries[name] = entry
            position += bits // 8
    if draw(st.booleans()):
        entries["__metadata__"] = draw(st.dictionaries(NAMES, NAMES, max_size=3))
    items = draw(st.permutations(list(entries.items())))
    return dict(items), bytes(position)


ODD_NUMBERS = st.sampled_from(
    [-1, 0, 1, 2, 7, 2**32, 2**63, 2**64 - 1, 2**64, 2**70, 1.0, 0.5, -0.0]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | ODD_NUMBERS | NAMES | st.sampled_from(sorted(DTYPE_BITS)),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES, children, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Draw a file that is right but for a few changes, or for none."""
    entries, data = draw(valid_entries())
    for _ in range(draw(st.integers(0, 2))):
        if not entries:
            break
        name = draw(st.sampled_from(sorted(entries)))
        fields = entries[name]
        field = draw(st.sampled_from(["dtype", "shape", "data_offsets", "extra", "__entry__"]))
        if field == "__entry__" or not isinstance(fields, dict):
            entries[name] = draw(JSON_VALUES)
        elif draw(st.booleans()):
            fields.pop(field, None)
        elif field in ("shape", "data_offsets") and isinstance(fields.get(field), list):
            numbers = st.integers(0, 40) | ODD_NUMBERS
            fields[field] = draw(st.lists(numbers, max_size=4) | JSON_VALUES)
        else:
            fields[field] = draw(JSON_VALUES)
    text = json.dumps(
        entries, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.just(1))
    )
    text = draw(st.sampled_from(["", "", "", " ", "\n", "\ufeff", "\0"])) + text
    text += draw(st.sampled_from(["", "", "", " ", " " * 9, "\n\t\r", "}", "\0", "x"]))
    data += draw(st.sampled_from([b"", b"", b"", b"x"]))
    content = file_of(text, data[: draw(st.sampled_from([len(data), len(data), len(data) - 1]))])
    cut = draw(st.sampled_from([None, None, None, 4, 8, 12]))
    return content[:cut]


@settings(max_examples=1500, deadline=None)
@given(damaged_files())
def test_a_file_is_refused_where_the_library_refuses_it(content: bytes) -> None:
    assert_agreement(content)


@settings(max_examples=500, deadline=None)
@given(JSON_VALUES, st.binary(max_size=8))
def test_any_json_in_the_place_of_a_header_is_judged_as_by_the_library(
    value: Any, data: bytes
) -> None:
    assert_agreement(file_of(json.dumps(value), data))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40) | st.text(string.printable, max_size=40).map(str.encode))
@example(b"")
@example(b"{}")
@example(b'{"a":\xff}')
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_in_the_place_of_a_header_are_judged_as_by_the_library(raw: bytes) -> None:
    assert_agreement(file_of(raw))
    assert_agreement(raw)


def entry(dtype: str = "F32", shape: str = "[1]", offsets: str = "[0,4]", x: str = "") -> str:
    """Spell the entry of a tensor, with a field that the format does not know if `x` is given."""
    unknown = f',"x":{x}' if x else ""
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}{unknown}}}'


def of(*entries: str) -> str:
    """Spell a header whose tensors are `a`, `b` and so on."""
    named = zip(string.ascii_lowercase, entries, strict=False)
    return "{" + ",".join(f'"{name}":{spelled}' for name, spelled in named) + "}"


WRONG = {
    "no object": "[]",
    "unknown dtype": of(entry("F128")),
    "lower-case dtype": of(entry("f32")),
    "negative dim": of(entry(shape="[-1]")),
    "fraction as a dim": of(entry(shape="[1.0]")),
    "minus zero as a dim": of(entry(shape="[-0]", offsets="[0,0]"), entry()),
    "truth as a dim": of(entry(shape="[true]")),
    "dim beyond 64 bits": of(entry(shape="[18446744073709551616]")),
    "overflow of the size": of(entry(shape="[4294967296,4294967296]")),
    "overflow that wraps to the right size": of(entry(shape="[4611686018427387905]")),
    "overflow before a zero": of(
        entry(shape="[4294967296,4294967296,0]", offsets="[0,0]"), entry()
    ),
    "offsets that do not start at 0": of(entry(offsets="[4,8]")),
    "offsets backwards": of(entry(offsets="[4,0]")),
    "one offset": of(entry(offsets="[4]")),
    "three offsets": of(entry(offsets="[0,4,4]")),
    "offsets past the end": of(entry(shape="[2]", offsets="[0,8]")),
    "size that disagrees with the shape": of(entry(shape="[2]")),
    "half a byte": of(entry("F4", "[1]", "[0,0]"), entry()),
    "overlap": of(entry(), entry("F16", "[1]", "[2,4]")),
    "hole": of(entry("U8", "[1]", "[0,1]"), entry("U8", "[1]", "[3,4]")),
    "bytes that no tensor has": of(entry("U8", "[3]", "[0,3]")),
    "missing dtype": of('{"shape":[1],"data_offsets":[0,4]}'),
    "missing shape": of('{"dtype":"F32","data_offsets":[0,4]}'),
    "missing offsets": of('{"dtype":"F32","shape":[1]}'),
    "NaN": of(entry(x="NaN")),
    "number out of range": of(entry(x="1e999")),
    "half a surrogate pair": '{"\\ud800":' + entry() + "}",
    "control character": '{"\n":' + entry() + "}",
    "number as metadata": '{"__metadata__":{"a":1},"a":' + entry() + "}",
    "list as metadata": '{"__metadata__":[],"a":' + entry() + "}",
    "comma at the end": '{"a":' + entry() + ",}",
    "something behind": of(entry()) + " x",
    "deep nesting": of(entry(x="[" * 200 + "]" * 200)),
    "nesting that no stack holds": of(entry(x="[" * 50_000 + "]" * 50_000)),
    "nothing but brackets": "[" * 100_000,
}


@pytest.mark.parametrize("what", WRONG)
def test_a_broken_rule_is_refused_here_and_by_the_library(what: str) -> None:
    content = file_of(WRONG[what], bytes(4))
    assert not library_accepts(content)
    with pytest.raises(BadHeaderError) as caught:
        parse_file(content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("file")


RIGHT = {
    "no tensors": ("{}", 0),
    "metadata only": ('{"__metadata__":{"a":"b"}}', 0),
    "null as metadata": ('{"__metadata__":null,"a":' + entry() + "}", 4),
    "a scalar": (of(entry(shape="[]")), 4),
    "an empty tensor": (of(entry(shape="[0,9]", offsets="[0,0]")), 0),
    "an empty tensor between two": (
        of(entry(), entry(shape="[0]", offsets="[4,4]"), entry(offsets="[4,8]")),
        8,
    ),
    "huge dims beside a zero": (of(entry("BF16", "[9223372036854775808,0]", "[0,0]")), 0),
    "another order": (of(entry(offsets="[4,8]"), entry()), 8),
    "an unknown field": (of(entry(x='[{},1e5,null,"]"]')), 4),
    "odd spelling": ('{ "\\u0061\\/" :\t' + entry(shape="[ 1 ,\n1 ]") + "\r\n}   ", 4),
    "a name that is not ASCII": ('{"视觉.模型 🙂":' + entry() + "}", 4),
    "a surrogate pair": ('{"\\ud83d\\ude42":' + entry() + "}", 4),
    "two values in a byte": (of(entry("F4", "[2]", "[0,1]")), 1),
}


@pytest.mark.parametrize("what", RIGHT)
def test_an_unusual_header_is_accepted_here_and_by_the_library(what: str) -> None:
    header, data_bytes = RIGHT[what]
    content = file_of(header, bytes(data_bytes))
    assert library_accepts(content)
    assert_agreement(content)
    parse_file(content)


@pytest.mark.parametrize(
    ("header", "data_bytes"),
    [
        ('{"a":' + entry() + ',"a":' + entry() + "}", 4),
        (of(entry(x='0,"dtype":"F32"')), 4),
        ('{"__metadata__":{"a":"b","a":"c"}}', 0),
        ('{"a":["F32",[1],[0,4]]}', 4),
        ('{"a":{"dtype":{"F32":null},"shape":[1],"data_offsets":[0,4]}}', 4),
    ],
)
def test_what_readers_could_take_in_two_ways_is_refused(header: str, data_bytes: int) -> None:
    content = file_of(header, bytes(data_bytes))
    with pytest.raises(BadHeaderError):
        parse_file(content)


@pytest.mark.parametrize("length", [0, 7])
def test_a_file_without_a_whole_length_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(length))
    with pytest.raises(BadHeaderError, match="too short"):
        read_header(path)


@pytest.mark.parametrize("length", [MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_a_header_over_the_limit_is_refused_before_it_is_read(length: int) -> None:
    with pytest.raises(BadHeaderError, match="at most 100000000"):
        header_length(struct.pack("<Q", length), file_bytes=2**64, label="file")


def test_a_header_of_the_limit_is_read() -> None:
    assert header_length(struct.pack("<Q", MAX_HEADER_BYTES), file_bytes=2**40, label="") == 10**8


def test_a_header_that_ends_behind_the_file_is_refused() -> None:
    with pytest.raises(BadHeaderError, match="does not fit"):
        header_length(struct.pack("<Q", 93), file_bytes=100, label="file")


# --- reshaping ------------------------------------------------------------------------------------


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
    spelled = '{ "\\u0061" : { "shape" : [ 2 ,\n 1, 2 ] , "dtype":"U8", "data_offsets":[0,4] } } '
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_of(spelled, b"abcd"))
    header = read_header(path)
    assert shape_text(header.text, "a") == "[ 2 ,\n 1, 2 ]"
    after = reshape_header(header, {"a": (2, 2)})
    assert after.text.rstrip() == spelled.replace("[ 2 ,\n 1, 2 ]", "[2,2]").rstrip()
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
    header = parse_file(file_of(of(entry()), bytes(4)))
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
