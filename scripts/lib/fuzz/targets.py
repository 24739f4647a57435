"""What is fuzzed: each target takes bytes from anywhere and raises only where it found something.

`Conv2LinearError` is the one way in which an input may be refused. What is accepted has to mean the
same to the `safetensors` library and to `json`, and an edit has to change nothing but what it says.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, deserialize

from conv2linear import restore
from conv2linear.checkpoint.config import CONFIG_NAME, parse_config
from conv2linear.checkpoint.header import Header, header_length
from conv2linear.checkpoint.header_edit import reshape_header, shape_text
from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.checkpoint.quantization.quantization import read_quantization
from conv2linear.checkpoint.quantization.skip_list_edit import plan_skip_list
from conv2linear.errors import BadHeaderError, Conv2LinearError
from conv2linear.record.manifest import MANIFEST_NAME, dump_manifest
from conv2linear.sources.base import FileInfo, Origin
from scripts.lib.fuzz.readers import READERS, Readers
from scripts.lib.fuzz.samples import SHARDS, linear_checkpoint

Values = dict[str, Any]


class Target(Protocol):
    """Takes an input, and what is to read it; raises what must not happen."""

    def __call__(self, content: bytes, readers: Readers = READERS) -> None:
        """Try one input. Raises `FindingError`, or what the code under test lets through."""


class FindingError(AssertionError):
    """An input was treated in a way that it must not be."""


def fuzz_header(content: bytes, readers: Readers = READERS) -> None:
    """Read bytes as a safetensors file, and as the header of one whose data fits it."""
    check_file(content, readers)
    data_bytes, raw = content[:1], content[1:]
    check_file(frame(raw, bytes(data_bytes[0] if data_bytes else 0)), readers)


def frame(raw: bytes, data: bytes = b"") -> bytes:
    """Put a file together."""
    return struct.pack("<Q", len(raw)) + raw + data


def check_file(content: bytes, readers: Readers = READERS) -> None:
    """Compare with the library what is accepted and what it says; shapes can go and come back."""
    try:
        expected = dict(deserialize(content))
    except SafetensorError:
        expected = None
    try:
        length = header_length(content[:8], file_bytes=len(content), label="file")
        raw = content[8 : 8 + length]
        header = readers.parse_header(raw, file_bytes=len(content), label="file")
    except BadHeaderError as error:
        _check_message(error)
        if expected is not None and not _is_ambiguous(content):
            raise FindingError(f"refused, but the library accepts it: {error}") from None
        return
    if expected is None:
        raise FindingError("accepted, but the library refuses it")
    if header.tensors.keys() != expected.keys():
        raise FindingError("other names of tensors than the library finds")
    for name, view in expected.items():
        info = header.tensors[name]
        start, end = header.byte_range(name)
        same = content[start:end] == bytes(view["data"])
        if (info.dtype, list(info.shape)) != (view["dtype"], view["shape"]) or not same:
            raise FindingError(f"other dtype, shape or bytes than the library finds: {name!r}")
    _check_round_trip(header, readers)


def _is_ambiguous(content: bytes) -> bool:
    """Tell whether a file is refused on purpose that the library accepts.

    A key that appears twice; a tensor that is not an object; a dtype that is not a string.
    """
    is_twice = []

    def pairs(items: list[tuple[str, Any]]) -> Values:
        is_twice.append(len(dict(items)) != len(items))
        return dict(items)

    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length], object_pairs_hook=pairs)
    entries.pop("__metadata__", None)
    kinds = (isinstance(e, dict) and isinstance(e["dtype"], str) for e in entries.values())
    return any(is_twice) or not all(kinds)


def _check_round_trip(header: Header, readers: Readers) -> None:
    flat = {name: (math.prod(info.shape),) for name, info in header.tensors.items() if info.shape}
    original = {name: shape_text(header.text, name) for name in flat}
    reshaped = reshape_header(header, flat)
    if readers.restore_header(reshaped, original) != header:
        raise FindingError("a reshaped header does not come back as it was")
    if {n: i.shape for n, i in reshaped.tensors.items() if n in flat} != flat:
        raise FindingError("a reshaped header has other shapes than asked for")


class Files:
    """A `Repository` whose files are in memory, so that millions can be read in a minute."""

    label = "files"
    origin: Origin | None = None
    warnings: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents
        self.files = {n: FileInfo(n, len(c), "in memory") for n, c in contents.items()}

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, fewer only at its end."""
        return self._contents[name][start : start + length]

    def local_path(self, name: str, *, on_bytes: Callable[[int], None]) -> Path | None:
        """Return None: no file lies on a disk."""
        return None

    def fetch(
        self, name: str, target: Path, *, scratch: Path, on_bytes: Callable[[int], None]
    ) -> None:
        """Write a copy of a file to the new file `target`."""
        target.write_bytes(self._contents[name])


def fuzz_index(content: bytes, readers: Readers = READERS) -> None:
    """Read a checkpoint of two good shards under an index from anywhere."""
    try:
        readers.read_checkpoint(Files({**SHARDS, INDEX_FILE: content}))
    except Conv2LinearError as error:
        _check_message(error)
        return
    found = json.loads(content)["weight_map"]
    shards = {n: c for n, c in SHARDS.items() if n.endswith(".safetensors")}
    places = {tensor: name for name, c in shards.items() for tensor, _ in deserialize(c)}
    if not set(found.values()) <= shards.keys():
        raise FindingError("an index was accepted that names what is no shard")
    layer = [tensor for tensor in places if "patch_embed.proj." in tensor]
    if any(found.get(tensor, places[tensor]) != places[tensor] for tensor in layer):
        raise FindingError("an index was accepted that lies about the patch embedding")


def fuzz_config(content: bytes, readers: Readers = READERS) -> None:
    """Read a checkpoint under a config from anywhere, and make every edit of one."""
    try:
        readers.read_checkpoint(Files({**SHARDS, CONFIG_NAME: content}))
    except Conv2LinearError as error:
        _check_message(error)
    try:
        check_config(content.decode(), readers)
    except UnicodeDecodeError:
        return
    except Conv2LinearError as error:
        _check_message(error)


def check_config(text: str, readers: Readers = READERS) -> None:
    """Make every edit of a config and check that each changes only what it is for."""
    config = parse_config(text)
    enabled = readers.enable_fusion(config)
    disabled = readers.disable_fusion(enabled)
    quantization = read_quantization(config)
    edit = plan_skip_list(config, {})
    edited = readers.edit_skip_list(config, edit)
    with _deep_recursion():  # the comparison needs more of the stack than what is tested
        expected = json.loads(text)
        if not config.fusion_enabled:
            fusion = expected.get("fusion_config") or {}
            expected["fusion_config"] = fusion | {"patch_embeddings": True}
        _check_same(enabled.text, expected, "enable_fusion")
        del expected["fusion_config"]["patch_embeddings"]
        if not expected["fusion_config"]:
            del expected["fusion_config"]
        _check_same(disabled.text, expected, "disable_fusion")
        if "fusion_config" not in config.values and disabled.text != text:
            raise FindingError("disable_fusion does not undo enable_fusion")
        expected = json.loads(text)
        path = quantization.skip_list_path if quantization else None
        if path and edit.entries:
            parent = expected
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = (parent.get(path[-1]) or []) + list(edit.entries)
        _check_same(edited.text, expected, "edit_skip_list")


@contextmanager
def _deep_recursion() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(2 * limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _check_same(text: str, expected: Values, edit: str) -> None:
    # As text: NaN does not equal itself, and 1, 1.0 and true must not pass for one another.
    if json.dumps(json.loads(text)) != json.dumps(expected):
        raise FindingError(f"{edit} changes something else, or in another order")


def fuzz_manifest(content: bytes, readers: Readers = READERS) -> None:
    """Read a manifest from anywhere; restore what one that is accepted describes."""
    try:
        manifest = readers.parse_manifest(content.decode())
    except UnicodeDecodeError:
        return
    except Conv2LinearError as error:
        _check_message(error)
        return
    if repr(readers.parse_manifest(dump_manifest(manifest))) != repr(manifest):
        raise FindingError("a manifest is read back in another way than it was written")
    with tempfile.TemporaryDirectory(dir=_MEMORY) as name:
        source = linear_checkpoint(Path(name) / "linear")
        (source / MANIFEST_NAME).write_bytes(content)
        out = Path(name) / "out"
        try:
            restore(source, out, workers=1)
        except Conv2LinearError as error:
            _check_message(error)
            if out.exists():
                raise FindingError("a manifest was refused, but OUT exists") from None
            return
        for shard in out.glob("*.safetensors"):
            deserialize(shard.read_bytes())


def _check_message(error: Conv2LinearError) -> None:
    str(error).encode(errors="backslashreplace")
    if not str(error).strip():
        raise FindingError("refused without a word")


_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # nothing here has to last

TARGETS: dict[str, Target] = {
    "header": fuzz_header,
    "index": fuzz_index,
    "config": fuzz_config,
    "manifest": fuzz_manifest,
}
