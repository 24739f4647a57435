"""Whatever stands in a header, index, config or manifest, it is read rightly or refused.

The targets are those of scripts/fuzz. Here their inputs have a structure that is nearly right, or
are known ways to attack a reader, each with its description.
"""

from __future__ import annotations

import copy
import json
import signal
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from conv2linear.checkpoint.checkpoint import read_checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig
from conv2linear.checkpoint.header import MAX_HEADER_BYTES, Header, parse_header, read_header
from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.errors import BadCheckpointError, BadHeaderError, Conv2LinearError
from conv2linear.plan.convert import ConversionOptions, build_plan
from conv2linear.record.manifest import MANIFEST_NAME, Manifest
from conv2linear.sources.folder import Folder
from scripts.lib.fuzz.readers import READERS
from scripts.lib.fuzz.samples import CONFIG, FILLER, SHARDS, linear_files, samples
from scripts.lib.fuzz.targets import TARGETS, Files, FindingError, check_file, frame
from tests.support.checkpoints import BIAS, WEIGHT

HANG_S = 20  # nothing here takes a second
MEMORY_FACTOR = 64  # an empty list takes 3 bytes as text and 64 in memory
MEMORY_FLOOR = 1 << 20

odd_numbers = st.sampled_from([0, -1, 1, 2, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e300])
odd_texts = st.sampled_from(
    ["", "a", "..", "../a", "/a", "a\\b", "a\0b", "a/b", "\ud800", "[1]", '"', "]", "NaN", WEIGHT]
)
values = st.recursive(
    st.none() | st.booleans() | odd_numbers | st.floats() | odd_texts | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3),
    max_leaves=5,
)


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail, instead of waiting for ever, where the input keeps the reader busy."""

    def stop(*_: Any) -> None:
        raise FindingError(f"hangs for more than {HANG_S} s")

    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def memory_within(size_bytes: int) -> Iterator[None]:
    """Check that what Python allocates stays below a multiple of the input's size."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY_FACTOR * size_bytes + MEMORY_FLOOR


@st.composite
def mutated(draw: st.DrawFn, original: Any) -> Any:
    """Draw the JSON value `original` with a few of its parts replaced, removed or added."""
    root = copy.deepcopy(original)
    for _ in range(draw(st.integers(0, 3))):
        parent: Any = root
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(parent[key], dict | list) and draw(st.integers(0, 3)):
                parent = parent[key]
                continue
            change = draw(st.sampled_from(["replace", "remove", "add"]))
            if change == "remove":
                del parent[key]
            elif change == "replace":
                parent[key] = draw(values)
            elif isinstance(parent, dict):
                parent[draw(odd_texts)] = draw(values)
            else:
                parent.append(draw(values))
            break
    return root


@st.composite
def spelled(draw: st.DrawFn, original: Any) -> bytes:
    """Draw a text for a mutated value: in some spelling of JSON, or with a part of it damaged."""
    value = draw(mutated(original))
    text = json.dumps(
        value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
    )
    if draw(st.integers(0, 3)) == 0 and text:
        start = draw(st.integers(0, len(text) - 1))
        end = start + draw(st.integers(0, 5))
        again = draw(
            st.sampled_from(["", text[start:end] * 2, "\\u0061", "[", "}", ",", "\t", "9" * 30])
        )
        text = text[:start] + again + text[end:]
    return text.encode(errors="surrogatepass")


SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck))


def entries(name: str) -> Any:
    """Return what the header of a sample shard says."""
    content = SHARDS[name]
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


SHARD_NAMES = [name for name in SHARDS if name.endswith(".safetensors")]


@settings(SETTINGS, max_examples=1000)
@given(st.sampled_from(SHARD_NAMES).flatmap(lambda n: spelled(entries(n))), st.integers(0, 17))
def test_a_header_is_read_as_the_library_reads_it_and_its_shapes_come_back(
    raw: bytes, data_bytes: int
) -> None:
    check_file(frame(raw, bytes(data_bytes)))


@settings(SETTINGS, max_examples=500)
@given(st.sampled_from(samples("header")), st.data())
def test_a_file_with_damaged_bytes_is_read_as_the_library_reads_it(
    content: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    TARGETS["header"](bytes(damaged))


@settings(SETTINGS, max_examples=1000)
@given(spelled(json.loads(SHARDS[INDEX_FILE])))
def test_an_index_is_accepted_only_where_it_says_where_the_tensors_are(content: bytes) -> None:
    with no_hang():
        TARGETS["index"](content)


@settings(SETTINGS, max_examples=2000)
@given(st.sampled_from(samples("config")).flatmap(lambda c: spelled(json.loads(c))))
def test_an_edit_of_a_config_keeps_everything_else(content: bytes) -> None:
    with no_hang():
        TARGETS["config"](content)


@settings(SETTINGS, max_examples=500)
@given(st.deferred(lambda: spelled(json.loads(linear_files()[MANIFEST_NAME]))))
def test_a_manifest_is_undone_or_refused(content: bytes) -> None:
    with no_hang():
        TARGETS["manifest"](content)


@SETTINGS
@given(st.binary(max_size=200), st.sampled_from(sorted(TARGETS)))
def test_bytes_from_anywhere_are_refused(content: bytes, target: str) -> None:
    TARGETS[target](content)


# --- ways to attack a reader of headers -----------------------------------------------------------


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
def test_a_key_that_stands_twice_is_refused_however_it_is_spelled(text: str) -> None:
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
    with no_hang(), memory_within(len(raw)), _refusals():
        parse_header(raw, file_bytes=8 + len(raw) + 1, label="file")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Conv2LinearError:
        return


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


def test_many_patch_embeddings_are_no_hang() -> None:
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
    with no_hang(), _refusals():
        plan = build_plan(read_checkpoint(files), ConversionOptions())
        assert len(plan.embeddings) == count


# --- of index files -------------------------------------------------------------------------------

NAMES = {
    "up": "../model.safetensors",
    "up from below": "a/../../model.safetensors",
    "absolute": "/etc/passwd",
    "backslash": "..\\model.safetensors",
    "NUL": "model.safetensors\0.txt",
    "empty": "",
    "the folder itself": ".",
    "twice the slash": "a//model.safetensors",
    "lone surrogate": "\udc80",
    "another file": CONFIG_NAME,
    "the index itself": INDEX_FILE,
    "a number": 1,
    "null": None,
    "a list": [],
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_of_a_shard_that_is_none_is_refused(what: str) -> None:
    index = json.loads(SHARDS[INDEX_FILE])
    index["weight_map"][FILLER] = NAMES[what]
    files = Files({**SHARDS, INDEX_FILE: json.dumps(index).encode()})
    with pytest.raises(BadCheckpointError):
        read_checkpoint(files)


# --- of configs -----------------------------------------------------------------------------------

CONFIGS: dict[str, str] = {
    "a number of 5000 digits": '{"model_type":"glm4v","x":' + "9" * 5000 + "}",
    "NaN": '{"model_type":"glm4v","x":NaN,"fusion_config":{"a":NaN}}',
    "lone surrogates": '{"model_type":"\\ud800","fusion_config":{"\\udc00":"\\ud800"}}',
    "a key twice": '{"model_type":"glm4v","x":{"a":1,"\\u0061":2}}',
    "fusion_config in another spelling": '{"model_type":"glm4v","fusion\\u005fconfig":{"x":[]}}',
    "an object in a list in an object": '{"model_type":"glm4v","x":[{"fusion_config":{}}]}',
    "nothing but space": " \t\r\n",
}


@pytest.mark.parametrize("attack", CONFIGS)
def test_an_attack_by_a_config_is_refused_or_does_no_harm(attack: str) -> None:
    with no_hang():
        TARGETS["config"](CONFIGS[attack].encode(errors="surrogatepass"))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("fusion", ["", ',"fusion_config":{"patch_embeddings":true}'])
def test_nesting_of_any_depth_is_refused_or_does_no_harm(
    opening: str, closing: str, fusion: str
) -> None:
    """The depth that parsing bears may be one too deep for an edit, which stands deeper itself."""
    for depth in range(900, sys.getrecursionlimit() + 10):
        nested = opening * depth + "1" * (opening != "[") + closing * depth
        TARGETS["config"](f'{{"model_type":"glm4v","x":{nested}{fusion}}}'.encode())


@pytest.mark.parametrize(
    "entry",
    ["(.|.)*!", "(.+)+x", "(a*)*" * 10, ".*" * 20 + "!", "a{99999999999999999999}", "(" * 5000,
     "(" * 5000 + ")" * 5000, "[", "\\", "(?x:(.+) +x)", "(?P<a>.)(?P=b)",
     "re:(.|.)*!", "re:" + ".*" * 20 + "!"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["fp8", "compressed-tensors"])
def test_a_pattern_in_the_skip_list_is_no_hang(method: str, entry: str) -> None:
    field = {"fp8": "modules_to_not_convert", "compressed-tensors": "ignore"}[method]
    quantization = {"quant_method": method, field: [entry]}
    with no_hang():
        TARGETS["config"](json.dumps(CONFIG | {"quantization_config": quantization}).encode())


@pytest.mark.parametrize("key", ["hidden_size", "patch_size", "in_channels"])
@pytest.mark.parametrize("shape", [[2, 4], [2, 1, 1, 2, 2]])
def test_a_size_of_4000_digits_is_refused(key: str, shape: list[int]) -> None:
    header = entries(SHARD_NAMES[1])
    header[WEIGHT]["shape"] = shape
    huge = json.dumps(CONFIG).replace(f'"{key}": ', f'"{key}": ' + "9" * 4000)
    files = {**SHARDS, CONFIG_NAME: huge.encode()}
    files[SHARD_NAMES[1]] = frame(json.dumps(header).encode(), bytes(16))
    with pytest.raises(BadCheckpointError):
        read_checkpoint(Files(files))


# --- of manifests ---------------------------------------------------------------------------------


def manifest(edit: Callable[[Any], Any]) -> bytes:
    """Return the manifest of a good conversion with one change."""
    record = json.loads(linear_files()[MANIFEST_NAME])
    edit(record)
    return json.dumps(record).encode()


def two_tensors(record: Any, first: str) -> None:
    """Let the first shape's text make the header's text something in which nothing is found."""
    other = {"name": BIAS, "shard": record["tensors"][0]["shard"], "shape_before": [1]}
    record["tensors"][0]["shape_text"] = first
    record["tensors"].append(record["tensors"][0] | other)


MANIFESTS: dict[str, Callable[[Any], Any]] = {
    "number that is no float": lambda r: r["check"][0].update(linear_max_abs_error=10**400),
    "NaN": lambda r: r["check"][0].update(linear_max_abs_error=float("nan")),
    "half a character as a text": lambda r: r["edits"][0].update(original="\ud800"),
    "half a character as a shape": lambda r: r["tensors"][0].update(shape_text="\ud800"),
    "half a character as a name": lambda r: r["files"][0].update(name="\ud800"),
    "shape that ends the entry": lambda r: r["tensors"][0].update(shape_text="[8]}"),
    "shape that adds a field": lambda r: r["tensors"][0].update(shape_text='[8],"dtype":"U8"'),
    "shape that is a number": lambda r: r["tensors"][0].update(shape_text="8"),
    "shape that is open": lambda r: r["tensors"][0].update(shape_text="["),
    "shape of a megabyte": lambda r: r["tensors"][0].update(shape_text="[8]" + " " * 1_000_000),
    "shape that hides the next": lambda r: two_tensors(r, '"'),
    "shape that nests the next": lambda r: two_tensors(r, "[" * 100_000),
    "shape that cuts the next off": lambda r: two_tensors(r, "}}"),
    "shape that is empty": lambda r: two_tensors(r, ""),
    "metadata as a tensor": lambda r: r["tensors"][0].update(name="__metadata__"),
    "no such tensor": lambda r: r["tensors"][0].update(name="a"),
    "no such shard": lambda r: r["tensors"][0].update(shard="a"),
    "text for a shard": lambda r: r["edits"][0].update(name=r["shards"][0]["name"]),
    "no text for a shard": lambda r: r["edits"].append(
        {"name": r["shards"][0]["name"], "original": None}
    ),
    "config that goes": lambda r: [e.update(original=None) for e in r["edits"]],
    "path that leads out": lambda r: r["edits"][0].update(name="../a"),
    "no tensors": lambda r: r.update(tensors=[], shards=[]),
    "partial": lambda r: r.update(partial=True),
    "version that is a truth": lambda r: r.update(schema_version=True),
    "version that is a list": lambda r: r.update(schema_version=[1]),
    "unknown field": lambda r: r.update(x=1),
}


@pytest.mark.parametrize("attack", MANIFESTS)
def test_an_attack_by_a_manifest_is_refused_or_does_no_harm(attack: str) -> None:
    with no_hang():
        TARGETS["manifest"](manifest(MANIFESTS[attack]))


# --- the targets find what is planted -------------------------------------------------------------


def test_a_reader_that_accepts_too_much_is_found() -> None:
    readers = replace(READERS, parse_header=lambda raw, **_: Header(raw.decode(), {}))
    with pytest.raises(FindingError, match="the library refuses"):
        check_file(frame(b'{"a":1}'), readers)


def test_a_reader_that_accepts_too_little_is_found() -> None:
    def refuse(raw: bytes, **_: Any) -> Header:
        raise BadHeaderError("planted")

    with pytest.raises(FindingError, match="the library accepts"):
        check_file(SHARDS[SHARD_NAMES[0]], replace(READERS, parse_header=refuse))


def test_a_shape_that_is_not_restored_is_found() -> None:
    readers = replace(READERS, restore_header=lambda header, _: header)
    with pytest.raises(FindingError, match="does not come back"):
        check_file(SHARDS[SHARD_NAMES[1]], readers)


def lose_a_key(config: ModelConfig, *_: Any) -> ModelConfig:
    values = dict(config.values)
    values.pop("vision_config")
    return ModelConfig(json.dumps(values), values)


FORGETFUL = {
    "enable_fusion": replace(READERS, enable_fusion=lose_a_key),
    "disable_fusion": replace(READERS, disable_fusion=lose_a_key),
    "edit_skip_list": replace(READERS, edit_skip_list=lose_a_key),
}


@pytest.mark.parametrize("edit", FORGETFUL)
def test_an_edit_that_loses_a_key_is_found(edit: str) -> None:
    with pytest.raises(FindingError, match=edit):
        TARGETS["config"](json.dumps(CONFIG).encode(), FORGETFUL[edit])


def test_an_index_that_is_not_compared_is_found() -> None:
    index = json.loads(SHARDS[INDEX_FILE])
    index["weight_map"][FILLER] = SHARD_NAMES[1]
    rightly = Files(SHARDS)
    readers = replace(READERS, read_checkpoint=lambda _: read_checkpoint(rightly))
    with pytest.raises(FindingError, match="where the tensors are"):
        TARGETS["index"](json.dumps(index).encode(), readers)


def test_an_exception_of_another_kind_is_found() -> None:
    def fail(text: str) -> Manifest:
        raise RecursionError

    with pytest.raises(RecursionError):
        TARGETS["manifest"](b"{}", replace(READERS, parse_manifest=fail))


def test_memory_beyond_a_multiple_is_found() -> None:
    with pytest.raises(AssertionError), memory_within(1000):
        bytearray(MEMORY_FLOOR + MEMORY_FACTOR * 1000 + 1)


def test_the_memory_repository_reads_as_a_folder_does(tmp_path: Path) -> None:
    for name, content in SHARDS.items():
        (tmp_path / name).write_bytes(content)
    in_folder, in_memory = read_checkpoint(Folder(tmp_path)), read_checkpoint(Files(SHARDS))
    assert in_folder.headers == in_memory.headers
    assert in_folder.patch_embeddings == in_memory.patch_embeddings
