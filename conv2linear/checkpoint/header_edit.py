"""Edit the shapes in a header's text; every other character stays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from conv2linear.checkpoint.header import LENGTH_BYTES, Header, TensorInfo, parse_header
from conv2linear.checkpoint.json_text import find, members, replace
from conv2linear.errors import BadHeaderError

_ALIGNMENT = 8  # of the data, as the safetensors library writes it


def reshape_header(header: Header, shapes: Mapping[str, tuple[int, ...]]) -> Header:
    """Give tensors another shape of the same size; only the text of those shapes changes.

    The new text is padded with spaces at its end to the old length, as the format allows, so
    every byte behind it stays where it is. Raises `BadHeaderError` if it would be longer.
    """
    text, tensors = _with_shapes(header.text, header.tensors, shapes)
    padding = len(header.raw) - len(text.encode())
    if padding < 0:
        raise BadHeaderError(f"the new header is {-padding} bytes longer than the old one")
    return Header(text + " " * padding, tensors)


def grow_header(header: Header, shapes: Mapping[str, tuple[int, ...]]) -> Header:
    """Give tensors another shape of the same size, in a header that may be longer than before.

    A longer one is padded to a multiple of 8 bytes, so that tensors stay aligned.
    """
    text, tensors = _with_shapes(header.text.rstrip(" "), header.tensors, shapes)
    return Header(_pad(text, len(header.raw)), tensors)


def rename_tensors(header: Header, names: Mapping[str, str]) -> Header:
    """Give tensors other names, each old one with its new one, in a header that may be longer.

    Their entries stay where they stand, and their bytes too. A longer header is padded to a
    multiple of 8 bytes. Raises `BadHeaderError` where a name would stand twice.
    """
    text = header.text.rstrip(" ")
    for old, new in names.items():
        entry = find(text, old)
        if entry is None:
            raise BadHeaderError(f"no {old!r} in the header")
        _, key_end = json.JSONDecoder().raw_decode(text, entry.key_start)
        text = replace(text, (entry.key_start, key_end), json.dumps(new, ensure_ascii=False))
    tensors = {names.get(name, name): info for name, info in header.tensors.items()}
    if len(tensors) < len(header.tensors):
        raise BadHeaderError("a new name of a tensor is that of another one")
    return Header(_pad(text, len(header.raw)), tensors)


def restore_header(header: Header, shape_texts: Mapping[str, str]) -> Header:
    """Put shapes back, each as the text that an older header of the same length had for it.

    Padding at the end makes room. Raises `BadHeaderError` where there is too little, or where the
    result is not a valid header.
    """
    text = header.text
    for name, shape in shape_texts.items():
        text = replace_shape(text, name, shape)
    surplus = len(text.encode()) - len(header.raw)
    if surplus > len(text) - len(text.rstrip(" ")):
        raise BadHeaderError(f"the old shapes do not fit: {surplus} bytes too long")
    text = text[: len(text) - surplus] if surplus >= 0 else text + " " * -surplus
    data_bytes = max((info.data_offsets[1] for info in header.tensors.values()), default=0)
    return parse_header(
        text.encode(), file_bytes=header.data_start + data_bytes, label="restored header"
    )


def shape_text(text: str, name: str) -> str:
    """Return the shape of a tensor as it is written in the text of a header."""
    start, end = _shape_span(text, name)
    return text[start:end]


def replace_shape(text: str, name: str, new: str) -> str:
    """Replace the shape of a tensor in the text of a header by the text `new`."""
    return replace(text, _shape_span(text, name), new)


def format_shape(shape: tuple[int, ...]) -> str:
    """Write a shape as the safetensors library does."""
    return "[" + ",".join(map(str, shape)) + "]"


def _pad(text: str, length: int) -> str:
    """Pad a header to a length in bytes or, where it is longer, so that the data stays aligned."""
    size_bytes = len(text.encode())
    if size_bytes > length:
        length = size_bytes + -(LENGTH_BYTES + size_bytes) % _ALIGNMENT
    return text + " " * (length - size_bytes)


def _with_shapes(
    text: str, tensors: Mapping[str, TensorInfo], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, dict[str, TensorInfo]]:
    changed = dict(tensors)
    for name, shape in shapes.items():
        text = replace_shape(text, name, format_shape(shape))
        changed[name] = changed[name]._replace(shape=shape)
    return text, changed


def _shape_span(text: str, name: str) -> tuple[int, int]:
    start = _entry_start(text, name)
    fields = members(text, start) if start is not None else ()
    for member in fields:
        if member.key == "shape":
            return member.start, member.end
    raise BadHeaderError(f"no shape of {name!r} in the header")


def _entry_start(text: str, name: str) -> int | None:
    """Find where the object that describes a tensor opens.

    Searching for the text of the key is many times faster than walking 100,000 entries. It is
    certain where the text has no escapes, by which a key could be written in another way, and
    where it is found once, so that no inner object has the same key.
    """
    key = re.compile(re.escape(json.dumps(name, ensure_ascii=False)) + r"\s*:\s*(?=\{)")
    if "\\" not in text and len(places := [match.end() for match in key.finditer(text)]) == 1:
        return places[0]
    entry = find(text, name)
    return entry.start if entry else None
