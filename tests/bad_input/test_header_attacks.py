"""Known ways to attack a reader of headers are refused, in little time and memory."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors import SafetensorError, deserialize

from conv2linear.checkpoint.checkpoint import read_checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.header import MAX_HEADER_BYTES, parse_header, read_header
from conv2linear.errors import BadHeaderError, Conv2LinearError
from conv2linear.plan.convert import ConversionOptions, build_plan
from scripts.lib.fuzz.targets import Files, check_file, frame
from tests.support.limits import memory_within, no_hang


def entry(dtype: str = "U8", shape: str = "[4]", offsets: str = "[0,4]") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


HEADERS: dict[str, tuple[str, int]] = {
    "overlapping tensors": (f'{{"a":{entry()},"b":{entry(offsets="[2,6]")}}}', 6),
    "one tensor inside of another": (
        f'{{"a":{entry(shape="[8]", offsets="[0,8]")},"b":{entry(offsets="[2,6]")}}}',
        8,
    ),
    "two tensors with the same bytes": (f'{{"a":{entry()},"b":{entry()}}}', 4),
    "a hole between tensors": (f'{{"a":{entry()},"b":{entry(offsets="[5,9]")}}}', 9),
    "a hole in front": (f'{{"a":{entry(offsets="[1,5]")}}}', 5),
    "a polyglot tail": (f'{{"a":{entry()}}}', 4 + 22),  # as an empty zip archive is long
    "a shape that overflows 64 bits": (
        f'{{"a":{entry(shape="[4294967296,4294967296,4294967296]")}}}',
        4,
    ),
    "a shape that wraps around to its size": (
        f'{{"a":{entry("F32", "[4611686018427387905]")}}}',
        4,
    ),
    "an overflow before a zero": (
        f'{{"a":{entry(shape="[4294967296,4294967296,0]", offsets="[0,0]")}}}',
        0,
    ),
    "offsets of 5000 digits": (f'{{"a":{entry(offsets="[0," + "9" * 5000 + "]")}}}', 4),
    "a dim of 5000 digits": (f'{{"a":{entry(shape="[" + "9" * 5000 + "]")}}}', 4),
    "offsets backwards": (f'{{"a":{entry(offsets="[4,0]")}}}', 4),
    "a lone surrogate in a name": (f'{{"\\udc00":{entry()}}}', 4),
    "NaN in an unknown field": ('{"a":' + entry()[:-1] + ',"x":NaN}}', 4),
    "Infinity in an unknown field": ('{"a":' + entry()[:-1] + ',"x":-Infinity}}', 4),
    "nesting of 100,000 levels": ('{"a":' * 100_000, 4),
    "nesting that is closed again": ('{"a":' + "[" * 50_000 + "]" * 50_000 + "}", 4),
    "a byte order mark": ("\ufeff" + f'{{"a":{entry()}}}', 4),
    "NUL behind the object": (f'{{"a":{entry()}}}\0', 4),
    "two objects": (f'{{"a":{entry()}}}{{}}', 4),
}


@pytest.mark.parametrize("attack", HEADERS)
def test_an_attack_by_a_header_is_refused_here_and_by_the_library(attack: str) -> None:
    text, data_bytes = HEADERS[attack]
    content = frame(text.encode(), bytes(data_bytes))
    with pytest.raises(SafetensorError):
        deserialize(content)
    with no_hang(), memory_within(len(content)):
        check_file(content)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"a":{entry()},"a":{entry()}}}',
        f'{{"a":{entry()},"\\u0061":{entry()}}}',
        f'{{"a":{entry()[:-1]},"shape":[4]}}}}',
    ],
)
def test_a_key_that_stands_twice_is_refused_however_it_is_written(text: str) -> None:
    with pytest.raises(BadHeaderError, match="duplicate key"):
        parse_header(text.encode(), file_bytes=8 + len(text) + 4, label="file")


HEAVY = {
    "empty lists": '{"__metadata__":[' + "[]," * 300_000 + "[]]}",
    "empty objects": '{"__metadata__":[' + "{}," * 300_000 + "{}]}",
    "numbers": '{"a":{"dtype":"U8","shape":[' + "1," * 500_000 + '1],"data_offsets":[0,1]}}',
    "short keys": "{" + ",".join(f'"{n:x}":0' for n in range(100_000)) + "}",
    "tensors without bytes": "{"
    + ",".join(f'"{n:x}":{entry(shape="[0]", offsets="[0,0]")}' for n in range(20_000))
    + "}",
    "escapes": '{"' + "\\u0061" * 200_000 + '":0}',
    "a number of a million digits": '{"a":' + "9" * 1_000_000 + "}",
    "spaces": '{"a":' + " " * 1_000_000 + "0}",
}


@pytest.mark.parametrize("what", HEAVY)
def test_a_header_takes_no_more_memory_than_a_multiple_of_itself(what: str) -> None:
    raw = HEAVY[what].encode()
    with no_hang(), memory_within(len(raw)), suppress(Conv2LinearError):
        parse_header(raw, file_bytes=8 + len(raw) + 1, label="file")


@pytest.mark.parametrize("fill", ["text", "brackets"])
def test_a_header_of_100_mb_is_read_or_refused(tmp_path: Path, fill: str) -> None:
    path = tmp_path / "model.safetensors"
    start, middle, end = ('{"__metadata__":{"a":"', "x", '"}}') if fill == "text" else ("", "[", "")
    text = start + middle * (MAX_HEADER_BYTES - len(start) - len(end)) + end
    path.write_bytes(frame(text.encode()))
    if fill == "text":
        assert dict(deserialize(path.read_bytes())) == {}
        assert read_header(path).tensors == {}
    else:
        with pytest.raises(BadHeaderError, match="too deep"):
            read_header(path)


def test_a_header_over_100_mb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        file.truncate(2 * MAX_HEADER_BYTES)  # as a sparse file, which has the bytes
    with memory_within(0), pytest.raises(BadHeaderError, match="at most"):
        read_header(path)


def test_many_patch_embeddings_take_no_longer_than_few() -> None:
    """Each shape that is looked for in the whole header makes the time grow with the square."""
    count = 20_000
    names = [f"{n}.patch_embed.proj.weight" for n in range(count)]
    listed = {
        name: {"dtype": "BF16", "shape": [1, 1, 1, 1, 1], "data_offsets": [2 * n, 2 * n + 2]}
        for n, name in enumerate(names)
    }
    sizes = dict.fromkeys(("hidden_size", "in_channels", "temporal_patch_size", "patch_size"), 1)
    config = {"model_type": "exaone4_5", "vision_config": sizes}  # the one without a bias
    files = Files(
        {
            CONFIG_NAME: json.dumps(config).encode(),
            "model.safetensors": frame(json.dumps(listed).encode(), bytes(2 * count)),
        }
    )
    with no_hang(), suppress(Conv2LinearError):
        plan = build_plan(read_checkpoint(files), ConversionOptions())
        assert len(plan.embeddings) == count
