"""`conv2linear.json`: what a conversion did, enough to verify it and to undo it.

It holds no time, no timing and no path of this machine: the same input on the same machine gives
the same bytes. The module has more than 300 lines because the fields and the checks of what is read
into them are one schema.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conv2linear.checkpoint.compatibility import Evidence, Loading, Support
from conv2linear.checkpoint.json_text import loads_document, loads_without_duplicates
from conv2linear.checkpoint.loaders import ALL_LOADERS, Loader
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError
from conv2linear.record.tool_version import is_newer
from conv2linear.sources.base import Origin, find_name_problem, is_inside, is_omitted

MANIFEST_NAME = "conv2linear.json"
SCHEMA_VERSION = 1
SMALL_BYTES = 32 << 20  # of a file that is hashed in passing: a tokenizer is smaller
_MAX_REASON = 200  # characters: what it quotes may be long
_MAX_SIZE = 2**63 - 1  # bytes, or values in a dimension: no file system and no header has more


@dataclass(frozen=True)
class TensorRecord:
    """A tensor of a patch embedding; its bias has the same shape before and after.

    `shape_text` is the text that the old header had for the old shape.
    """

    name: str
    shard: str
    dtype: str
    shape_before: tuple[int, ...]
    shape_after: tuple[int, ...]
    shape_text: str
    sha256: str


@dataclass(frozen=True)
class ShardRecord:
    """The SHA-256 of a reshaped shard's header, before and after.

    `header_before` is its whole text where tensors have other names now, as in an adapter; else the
    shapes on record are enough to restore it.
    """

    name: str
    header_sha256_before: str
    header_sha256_after: str
    header_before: str | None = None


@dataclass(frozen=True)
class FileRecord:
    """A file of the output; `sha256` is None where nothing has hashed it yet."""

    name: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class EditRecord:
    """A text file that was edited, or made where `original` is None."""

    name: str
    original: str | None


@dataclass(frozen=True)
class LeftOutRecord:
    """A small file of the source that the output has not, and what was in it.

    `text` is its content, or where that is not UTF-8 `base64` is.
    """

    name: str
    text: str | None
    base64: str | None

    @staticmethod
    def of(name: str, content: bytes) -> LeftOutRecord:
        """Return the record of a file with this content."""
        try:
            return LeftOutRecord(name, content.decode(), None)
        except UnicodeDecodeError:
            return LeftOutRecord(name, None, b64encode(content).decode())

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        if self.text is not None:
            return self.text.encode()
        return b64decode(self.base64 or "", validate=True)


@dataclass(frozen=True)
class CheckRecord:
    """What the equivalence check found for one patch embedding, and where it ran.

    Conv3d has no errors where it could not be computed, as the warning then says.
    """

    tensor: str
    dtype: str
    basis_patches: int
    sampled_patches: int
    linear_max_abs_error: float
    linear_max_error_over_bound: float
    conv3d_max_abs_error: float | None
    conv3d_max_error_over_bound: float | None
    conv3d_warning: str | None
    device: str
    device_name: str
    torch: str
    cudnn: str | None


@dataclass(frozen=True)
class Manifest:
    """The record of a conversion; `tool` is the version of conv2linear that wrote it.

    A `partial` output holds only what the conversion changed; `absent` are the files of the source
    that belong to the checkpoint all the same, `left_out` those that do not belong to it any more.
    `subfolder` is the folder in which the converted checkpoint is, "" where it is the whole.
    `compatibility` says where the output loads, `loaders` are those that it was made for.
    `source_listing_sha256` identifies what the source was, as `hash_source_listing` does: what else
    is on record must lead to it. Versions before 0.2 wrote none of these five down.
    """

    tool: str
    source: Origin | None
    model_type: str
    tensors: tuple[TensorRecord, ...]
    shards: tuple[ShardRecord, ...]
    files: tuple[FileRecord, ...]
    absent: tuple[FileRecord, ...]
    edits: tuple[EditRecord, ...]
    check: tuple[CheckRecord, ...]
    partial: bool
    compatibility: tuple[Loading, ...] = ()
    subfolder: str = ""
    left_out: tuple[LeftOutRecord, ...] = ()
    loaders: tuple[Loader, ...] | None = None
    source_listing_sha256: str | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def config_name(self) -> str:
        """The name of the config of the converted checkpoint."""
        return f"{self.subfolder}/config.json" if self.subfolder else "config.json"

    @property
    def made_for(self) -> tuple[Loader, ...]:
        """The loaders that the checkpoint was made for: before there was a choice, all."""
        return ALL_LOADERS if self.loaders is None else self.loaders

    @property
    def edited(self) -> tuple[str, ...]:
        """The files on record as edited whose text is not the one that it was."""
        now = {file.name: file.sha256 for file in self.files}
        return tuple(
            edit.name
            for edit in self.edits
            if edit.original is None
            or hashlib.sha256(edit.original.encode()).hexdigest() != now.get(edit.name)
        )


def dump_manifest(manifest: Manifest) -> str:
    """Format a manifest as JSON text."""
    values = dataclasses.asdict(manifest)
    for name in ("loaders", "source_listing_sha256"):
        if values[name] is None:
            del values[name]  # as that version wrote it
    if manifest.source and manifest.source.hub is None:
        del values["source"]["hub"]  # likewise, and of huggingface.co no more needs to be said
    first = ("schema_version", "tool", "partial")
    ordered = {name: values.pop(name) for name in first} | values
    return json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"


def parse_manifest(text: str) -> Manifest:
    """Read the text of a `conv2linear.json`.

    Args:
        text: the whole document.

    Raises `BadCheckpointError` where a field is missing, wrong or none of a record's, and
    `UnsupportedCheckpointError` where the record has another schema, or where a later version wrote
    one that this version does not know all of.
    """
    values: Any = None
    try:
        values = loads_document(text)
        json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is not text
        version = values["schema_version"]
        if type(version) is int and version != SCHEMA_VERSION:
            raise UnsupportedCheckpointError(
                f"{MANIFEST_NAME} has schema version {version!r}, expected {SCHEMA_VERSION}",
                hint="it was written by another version of conv2linear: use that one",
            )
        _size(version)
        return _build_manifest(values)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        reason = repr(error)[:_MAX_REASON]
        if isinstance(values, dict) and is_newer(values.get("tool")):
            raise UnsupportedCheckpointError(
                f"{MANIFEST_NAME} is of conv2linear {values['tool']}, and this version does not "
                f"know all that is in it: {reason}",
                hint="it was written by a later version of conv2linear: use that one",
            ) from None
        raise BadCheckpointError(f"{MANIFEST_NAME} is not a valid manifest: {reason}") from None


def _build_manifest(values: Mapping[str, Any]) -> Manifest:
    if unknown := values.keys() - {field.name for field in dataclasses.fields(Manifest)}:
        raise KeyError(*sorted(unknown))  # whoever writes the record anew would lose it
    manifest = Manifest(
        tool=_text(values["tool"]),
        source=None if values["source"] is None else _record(Origin, values["source"]),
        model_type=_text(values["model_type"]),
        tensors=_records(TensorRecord, values["tensors"]),
        shards=_records(ShardRecord, values["shards"]),
        files=_records(FileRecord, values["files"]),
        absent=_records(FileRecord, values["absent"]),
        edits=_records(EditRecord, values["edits"]),
        check=_records(CheckRecord, values["check"]),
        partial=_flag(values["partial"]),
        compatibility=_records(Loading, values.get("compatibility", [])),
        subfolder=_text(values.get("subfolder", "")),
        left_out=_records(LeftOutRecord, values.get("left_out", [])),
        loaders=_loaders(values["loaders"]) if "loaders" in values else None,
        source_listing_sha256=(
            _text(values["source_listing_sha256"]) if "source_listing_sha256" in values else None
        ),
    )
    names = [record.name for record in (*manifest.files, *manifest.absent)]
    if MANIFEST_NAME in names:
        raise ValueError(f"{MANIFEST_NAME} is on record itself")
    _refuse_repeated(names)
    for records in (manifest.shards, manifest.tensors, manifest.edits, manifest.left_out):
        _refuse_repeated(record.name for record in records)
    names += [record.name for record in manifest.shards]
    names += [record.name for record in manifest.edits]
    names += [record.shard for record in manifest.tensors]
    names += [record.name for record in manifest.left_out]
    names += [manifest.subfolder] if manifest.subfolder else []
    for name in names:
        if not is_inside(name):
            raise ValueError(f"{name!r} is not a file in this folder")
        # A restoration would make a repository of OUT, whose configuration git runs.
        if is_omitted(name) or find_name_problem(name):
            raise ValueError(f"{name!r} is the name of no file of a checkpoint")
    for tensor in manifest.tensors:
        if loads_without_duplicates(tensor.shape_text) != list(tensor.shape_before):
            raise ValueError(f"shape_text of {tensor.name} is not {list(tensor.shape_before)}")
    for record in manifest.left_out:
        _ = record.content  # raises where it is not base64
    return manifest


def _refuse_repeated(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{name!r} is on record twice")
        seen.add(name)


def _records(kind: type[Any], values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise TypeError(f"expected a list of {kind.__name__}")
    return tuple(_record(kind, value) for value in values)


def _record(kind: type[Any], values: Any) -> Any:
    """Build a dataclass from an object that has exactly its fields, each of the right type.

    A field with a default may be missing: an earlier version did not have it.
    """
    if not isinstance(values, dict):
        raise TypeError(f"expected an object for {kind.__name__}")
    fields = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    later = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    if wrong := (values.keys() ^ fields.keys()) - (later - values.keys()):
        raise KeyError(*sorted(wrong))
    return kind(**{name: _CHECKS[fields[name]](value) for name, value in values.items()})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r}")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, found {value!r}")
    return value


def _loaders(value: Any) -> tuple[Loader, ...]:
    if not isinstance(value, list) or not value or len(set(value)) != len(value):
        raise TypeError(f"expected a list of loaders, found {value!r}")
    return tuple(Loader(_text(each)) for each in value)


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_SIZE:
        raise TypeError(f"expected a size, found {value!r}")
    return value


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise TypeError(f"expected a shape, found {value!r}")
    return tuple(_size(dim) for dim in value)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"expected a number, found {value!r}")
    return float(value)


def _optional_number(value: Any) -> float | None:
    return None if value is None else _number(value)


def _optional_evidence(value: Any) -> Evidence | None:
    return None if value is None else Evidence(value)


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "str": _text,
    "str | None": _optional_text,
    "int": _size,
    "float": _number,
    "float | None": _optional_number,
    "tuple[int, ...]": _shape,
    "Support": Support,
    "Evidence | None": _optional_evidence,
}
