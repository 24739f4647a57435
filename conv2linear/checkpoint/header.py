"""Read, check and edit the header of a safetensors file.

A file is an 8-byte little-endian length, that many bytes of JSON, then the tensors' bytes
(https://huggingface.co/docs/safetensors/index#format). The rules here are those of the
`safetensors` crate (`SafeTensors::read_metadata`, `Metadata::validate`), and stricter in two:
a key that stands twice and a tensor entry that is not a JSON object are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from conv2linear.checkpoint.json_text import MAX_NESTING, loads_without_duplicates, nesting
from conv2linear.collector import collector_paused
from conv2linear.errors import BadHeaderError
from conv2linear.files.clone import open_regular

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # MAX_HEADER_SIZE of the safetensors crate
_MAX_USIZE = 2**64 - 1
DTYPE_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


class TensorInfo(NamedTuple):
    """What a header says of one tensor; `data_offsets` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def size_bytes(self) -> int:
        """Size of the tensor in the file, in bytes."""
        return self.data_offsets[1] - self.data_offsets[0]


@dataclass(frozen=True)
class Header:
    """A checked header: its text, and the tensors that it lists."""

    text: str
    tensors: Mapping[str, TensorInfo]

    @cached_property
    def raw(self) -> bytes:
        """The JSON bytes as they stand in the file."""
        return self.text.encode()

    @property
    def data_start(self) -> int:
        """Position in the file of the first tensor's first byte."""
        return LENGTH_BYTES + len(self.raw)

    @property
    def sha256(self) -> str:
        """SHA-256 of the JSON bytes."""
        return hashlib.sha256(self.raw).hexdigest()

    def byte_range(self, name: str) -> tuple[int, int]:
        """Return where the bytes of a tensor start and end in the file."""
        start, end = self.tensors[name].data_offsets
        return self.data_start + start, self.data_start + end


def read_header(path: Path, *, label: str | None = None) -> Header:
    """Read and check the header of the safetensors file at `path` (links are followed).

    Raises `BadHeaderError` where it is not a regular file or not a valid safetensors file.
    """
    label = label or path.name
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = header_length(file.read(LENGTH_BYTES), file_bytes=size, label=label)
        return parse_header(file.read(length), file_bytes=size, label=label)


def header_length(prefix: bytes, *, file_bytes: int, label: str) -> int:
    """Return the header's length in bytes, from the first 8 bytes of a file of `file_bytes`."""
    if len(prefix) < LENGTH_BYTES:
        raise BadHeaderError(
            f"{label}: too short for a safetensors file ({file_bytes} bytes)",
            hint="the file is empty or was cut off: download or copy it again",
        )
    (length,) = struct.unpack("<Q", prefix[:LENGTH_BYTES])
    if length > MAX_HEADER_BYTES:
        raise BadHeaderError(
            f"{label}: header length is {length} bytes, at most {MAX_HEADER_BYTES} are allowed",
            hint="this is not a safetensors file, or its first bytes are damaged",
        )
    if LENGTH_BYTES + length > file_bytes:
        raise BadHeaderError(
            f"{label}: header of {length} bytes does not fit into a file of {file_bytes} bytes",
            hint="the file was cut off: download or copy it again",
        )
    return int(length)


def parse_header(raw: bytes, *, file_bytes: int, label: str) -> Header:
    """Parse and check the JSON bytes of a header that stands in a file of `file_bytes`.

    Raises `BadHeaderError` with the first rule that is broken.
    """
    # Without a pause a header of 100,000 tensors takes three times as long.
    with collector_paused():
        try:
            text = raw.decode()
            entries = _loads(text)
        except ValueError as error:
            raise BadHeaderError(f"{label}: header is not valid JSON: {error}") from None
        if not isinstance(entries, dict):
            raise BadHeaderError(f"{label}: header is not a JSON object")
        _check_metadata(entries.pop("__metadata__", None), label)
        tensors = {name: _tensor_info(name, entry, label) for name, entry in entries.items()}
    _check_coverage(tensors, file_bytes - LENGTH_BYTES - len(raw), label)
    return Header(text, tensors)


def _loads(text: str) -> Any:
    # A hook for each integer would double the time; only "-0" needs one.
    parse_int = _parse_int if "-0" in text else None
    value = loads_without_duplicates(
        text, parse_int=parse_int, parse_float=_parse_float, parse_constant=_refuse_constant
    )
    if "\\u" in text:  # only an escape can stand for half of a surrogate pair, not Unicode
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _parse_int(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)  # the crate takes "-0" for a float


def _parse_float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"number out of range: {digits}")
    return value


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _check_metadata(metadata: Any, label: str) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BadHeaderError(f"{label}: __metadata__ is not an object of strings")


def _tensor_info(name: str, entry: Any, label: str) -> TensorInfo:
    try:
        return _checked_info(entry)
    except ValueError as error:
        raise BadHeaderError(f"{label}: tensor {name!r} {error}") from None


def _checked_info(entry: Any) -> TensorInfo:
    if not isinstance(entry, dict):
        raise ValueError(f"is described by {_json_type(entry)}, expected an object")
    try:
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    except KeyError as missing:
        raise ValueError(f"has no {missing.args[0]!r}") from None
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise ValueError(f"has an unknown dtype {dtype!r}")
    if not _are_sizes(shape):
        raise ValueError("has a shape that is not a list of unsigned integers")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError("has data_offsets that are not two unsigned integers")
    if len(entry) > 3 and nesting(entry) > MAX_NESTING - 1:
        raise ValueError("is nested too deeply")
    size = 1
    # In the crate's order: a product that overflows is refused even if a later factor is 0.
    for factor in (*shape, bits):
        size *= factor
        if size > _MAX_USIZE:
            raise ValueError(f"has a shape whose size overflows: {shape}")
    start, end = offsets
    if size % 8 or size // 8 != end - start:
        raise ValueError(f"has {end - start} bytes, but {dtype} {shape} takes {size / 8:g}")
    return TensorInfo(dtype, tuple(shape), (start, end))


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(number) is int and 0 <= number <= _MAX_USIZE for number in value
    )


def _json_type(value: Any) -> str:
    kinds = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _data_offsets(item: tuple[str, TensorInfo]) -> tuple[int, int]:
    return item[1].data_offsets


def _check_coverage(tensors: Mapping[str, TensorInfo], data_bytes: int, label: str) -> None:
    """Check that the tensors cover the data exactly: no hole, no overlap, nothing behind."""
    position = 0
    for name, info in sorted(tensors.items(), key=_data_offsets):
        start, end = info.data_offsets
        if start != position:
            kind = "overlaps another tensor" if start < position else "leaves a hole in front"
            raise BadHeaderError(f"{label}: tensor {name!r} at byte {start} {kind} ({position})")
        position = end
    if position != data_bytes:
        raise BadHeaderError(
            f"{label}: the tensors take {position} bytes, but the file holds {data_bytes}",
            hint="the file was cut off, or has something appended: download or copy it again",
        )
