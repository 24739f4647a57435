"""Headers of all kinds for the tests, and what the `safetensors` library says of them."""

from __future__ import annotations

import json
import string
import struct
from typing import Any

from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from conv2linear.checkpoint.header import (
    DTYPE_BITS,
    Header,
    header_length,
    parse_header,
)
from conv2linear.errors import BadHeaderError


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

    A key that appears twice; a tensor that is described by a list; a dtype that is not a string.
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


def entry(dtype: str = "F32", shape: str = "[1]", offsets: str = "[0,4]", x: str = "") -> str:
    """Write the entry of a tensor, with a field that the format does not know if `x` is given."""
    unknown = f',"x":{x}' if x else ""
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}{unknown}}}'


def header_text(*entries: str) -> str:
    """Write a header whose tensors are `a`, `b` and so on."""
    named = zip(string.ascii_lowercase, entries, strict=False)
    return "{" + ",".join(f'"{name}":{each}' for name, each in named) + "}"
