"""Decide what a conversion does to each file; nothing is written here."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from conv2linear.checkpoint import CONV3D, MANIFEST_NAME, Checkpoint, FileInfo, PatchEmbedding
from conv2linear.config import CONFIG_NAME, enable_fusion
from conv2linear.errors import NothingToConvertError, UnsafeQuantizationError
from conv2linear.header import Header, reshape_header
from conv2linear.quantization import edit_skip_list, plan_skip_list, read_quantization


class Action(str, enum.Enum):
    """What happens to one file."""

    RESHAPE = "reshape"
    EDIT = "edit"
    PASS = "pass"  # through, byte for byte
    LEAVE_OUT = "leave out"


@dataclass(frozen=True)
class PlannedFile:
    """One file of the source and what happens to it.

    A reshaped shard has its new `header`, an edited file its `original` and its new `text`.
    """

    info: FileInfo
    action: Action
    header: Header | None = None
    original: str | None = None
    text: str | None = None

    @property
    def name(self) -> str:
        """Path of the file below the checkpoint's root."""
        return self.info.name

    @property
    def output_bytes(self) -> int:
        """Size of the file in the output."""
        return self.info.size_bytes if self.text is None else len(self.text.encode())


@dataclass(frozen=True)
class ConversionPlan:
    """All that a conversion will do."""

    checkpoint: Checkpoint
    files: tuple[PlannedFile, ...]
    warnings: tuple[str, ...]

    @property
    def embeddings(self) -> tuple[PatchEmbedding, ...]:
        """The patch embeddings that become linear."""
        return self.checkpoint.patch_embeddings

    @property
    def written(self) -> tuple[PlannedFile, ...]:
        """The files that the output will have, but for the manifest."""
        return tuple(file for file in self.files if file.action is not Action.LEAVE_OUT)

    @property
    def reshaped(self) -> tuple[PlannedFile, ...]:
        """The shards that get a new header."""
        return tuple(file for file in self.files if file.action is Action.RESHAPE)

    @property
    def download_bytes(self) -> int:
        """Bytes that have to come from the Hub: what is not on this machine yet."""
        fetched = (Action.RESHAPE, Action.PASS)
        return sum(
            f.info.size_bytes for f in self.files if f.action in fetched and f.info.path is None
        )

    @property
    def output_bytes(self) -> int:
        """Size of the output, without the manifest."""
        return sum(file.output_bytes for file in self.written)


def build_plan(
    checkpoint: Checkpoint, *, allow_unsafe_quantization: bool = False
) -> ConversionPlan:
    """Decide the action for each file of a checkpoint.

    Raises `NothingToConvertError` where the layout is not conv3d, and `UnsafeQuantizationError`
    where the quantisation method would, or might, break the result.
    """
    label = checkpoint.repository.label
    if checkpoint.layout != CONV3D:
        raise NothingToConvertError(
            f"{label}: the patch embedding is {checkpoint.layout} already, nothing to convert",
            hint="`conv2linear verify` checks such a checkpoint, `conv2linear restore` undoes it",
        )
    skip_list = plan_skip_list(read_quantization(checkpoint.config))
    if skip_list.danger and not allow_unsafe_quantization:
        raise UnsafeQuantizationError(
            f"{label}: {skip_list.danger}",
            hint="--allow-unsafe-quantization converts it all the same: test the result",
        )
    config = edit_skip_list(enable_fusion(checkpoint.config), skip_list)
    headers = _linear_headers(checkpoint)
    texts = {CONFIG_NAME: (checkpoint.config.text, config.text)}
    files = tuple(_plan_file(info, headers, texts) for info in checkpoint.files.values())
    warnings = (f"unsafe quantisation: {skip_list.danger}",) if skip_list.danger else ()
    return ConversionPlan(checkpoint, files, warnings)


def _linear_headers(checkpoint: Checkpoint) -> dict[str, Header]:
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for embedding in checkpoint.patch_embeddings:
        shapes.setdefault(embedding.shard, {})[embedding.name] = embedding.geometry.linear_shape
    return {shard: reshape_header(checkpoint.headers[shard], new) for shard, new in shapes.items()}


def _plan_file(
    info: FileInfo, headers: Mapping[str, Header], texts: Mapping[str, tuple[str, str]]
) -> PlannedFile:
    if info.name in headers:
        return PlannedFile(info, Action.RESHAPE, header=headers[info.name])
    if info.name == MANIFEST_NAME:  # a new one is written
        return PlannedFile(info, Action.LEAVE_OUT)
    if info.name in texts and texts[info.name][0] != texts[info.name][1]:
        original, text = texts[info.name]
        return PlannedFile(info, Action.EDIT, original=original, text=text)
    return PlannedFile(info, Action.PASS)
