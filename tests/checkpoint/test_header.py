"""Headers are accepted and refused as the `safetensors` library itself would."""

from __future__ import annotations

import json
import string
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conv2linear.checkpoint.header import (
    MAX_HEADER_BYTES,
    header_length,
    read_header,
)
from conv2linear.errors import BadHeaderError
from tests.checkpoint.headers import (
    JSON_VALUES,
    assert_agreement,
    damaged_files,
    entry,
    file_of,
    header_text,
    library_accepts,
    parse_file,
)


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


WRONG = {
    "no object": "[]",
    "unknown dtype": header_text(entry("F128")),
    "lower-case dtype": header_text(entry("f32")),
    "negative dim": header_text(entry(shape="[-1]")),
    "fraction as a dim": header_text(entry(shape="[1.0]")),
    "minus zero as a dim": header_text(entry(shape="[-0]", offsets="[0,0]"), entry()),
    "truth as a dim": header_text(entry(shape="[true]")),
    "dim beyond 64 bits": header_text(entry(shape="[18446744073709551616]")),
    "overflow of the size": header_text(entry(shape="[4294967296,4294967296]")),
    "overflow that wraps to the right size": header_text(entry(shape="[4611686018427387905]")),
    "overflow before a zero": header_text(
        entry(shape="[4294967296,4294967296,0]", offsets="[0,0]"), entry()
    ),
    "offsets that do not start at 0": header_text(entry(offsets="[4,8]")),
    "offsets backwards": header_text(entry(offsets="[4,0]")),
    "one offset": header_text(entry(offsets="[4]")),
    "three offsets": header_text(entry(offsets="[0,4,4]")),
    "offsets past the end": header_text(entry(shape="[2]", offsets="[0,8]")),
    "size that disagrees with the shape": header_text(entry(shape="[2]")),
    "half a byte": header_text(entry("F4", "[1]", "[0,0]"), entry()),
    "overlap": header_text(entry(), entry("F16", "[1]", "[2,4]")),
    "hole": header_text(entry("U8", "[1]", "[0,1]"), entry("U8", "[1]", "[3,4]")),
    "bytes that no tensor has": header_text(entry("U8", "[3]", "[0,3]")),
    "missing dtype": header_text('{"shape":[1],"data_offsets":[0,4]}'),
    "missing shape": header_text('{"dtype":"F32","data_offsets":[0,4]}'),
    "missing offsets": header_text('{"dtype":"F32","shape":[1]}'),
    "NaN": header_text(entry(x="NaN")),
    "number out of range": header_text(entry(x="1e999")),
    "half a surrogate pair": '{"\\ud800":' + entry() + "}",
    "control character": '{"\n":' + entry() + "}",
    "number as metadata": '{"__metadata__":{"a":1},"a":' + entry() + "}",
    "list as metadata": '{"__metadata__":[],"a":' + entry() + "}",
    "comma at the end": '{"a":' + entry() + ",}",
    "something behind": header_text(entry()) + " x",
    "deep nesting": header_text(entry(x="[" * 200 + "]" * 200)),
    "nesting that no stack holds": header_text(entry(x="[" * 50_000 + "]" * 50_000)),
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
    "a scalar": (header_text(entry(shape="[]")), 4),
    "an empty tensor": (header_text(entry(shape="[0,9]", offsets="[0,0]")), 0),
    "an empty tensor between two": (
        header_text(entry(), entry(shape="[0]", offsets="[4,4]"), entry(offsets="[4,8]")),
        8,
    ),
    "huge dims beside a zero": (header_text(entry("BF16", "[9223372036854775808,0]", "[0,0]")), 0),
    "another order": (header_text(entry(offsets="[4,8]"), entry()), 8),
    "an unknown field": (header_text(entry(x='[{},1e5,null,"]"]')), 4),
    "odd spelling": ('{ "\\u0061\\/" :\t' + entry(shape="[ 1 ,\n1 ]") + "\r\n}   ", 4),
    "a name that is not ASCII": ('{"视觉.模型 🙂":' + entry() + "}", 4),
    "a surrogate pair": ('{"\\ud83d\\ude42":' + entry() + "}", 4),
    "two values in a byte": (header_text(entry("F4", "[2]", "[0,1]")), 1),
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
        (header_text(entry(x='0,"dtype":"F32"')), 4),
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
