"""Decide what a conversion does to each file; nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME, enable_fusion
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.header_edit import reshape_header
from conv2linear.checkpoint.patch_embedding import Layout, PatchEmbedding
from conv2linear.checkpoint.quantization import edit_skip_list, plan_skip_list, read_quantization
from conv2linear.errors import NothingToConvertError, UnsafeQuantizationError
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.record.manifest import MANIFEST_NAME
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.sources.base import FileInfo, read_text


@dataclass(frozen=True)
class ConversionPlan:
    """All that a conversion will do. A `partial` one writes only what it changes."""

    checkpoint: Checkpoint
    files: tuple[PlannedFile, ...]
    partial: bool
    warnings: tuple[str, ...]

    @property
    def embeddings(self) -> tuple[PatchEmbedding, ...]:
        """The patch embeddings that become linear."""
        return self.checkpoint.patch_embeddings

    @property
    def written(self) -> tuple[PlannedFile, ...]:
        """The files that the output will have, but for the manifest."""
        return self.with_action(Action.RESHAPE, Action.EDIT, Action.COPY)

    @property
    def reshaped(self) -> tuple[PlannedFile, ...]:
        """The shards that get a new header."""
        return self.with_action(Action.RESHAPE)

    def with_action(self, *actions: Action) -> tuple[PlannedFile, ...]:
        """Return the files that meet with one of these actions."""
        return tuple(file for file in self.files if file.action in actions)

    @property
    def download_bytes(self) -> int:
        """Bytes that have to come from the Hub: what is not on this machine yet."""
        fetched = (Action.RESHAPE, Action.COPY)
        return sum(
            f.info.size_bytes for f in self.files if f.action in fetched and f.info.path is None
        )

    @property
    def output_bytes(self) -> int:
        """Size of the output, without the manifest."""
        return sum(file.output_bytes for file in self.written)


def build_plan(
    checkpoint: Checkpoint,
    *,
    allow_unsafe_quantization: bool = False,
    changed_only: bool = False,
    model_card: bool = True,
) -> ConversionPlan:
    """Decide the action for each file of a checkpoint.

    With `changed_only` the files that pass through stay absent; with `model_card` README.md gets a
    section, whose text `with_model_card` fills in once there is something to say.

    Raises `NothingToConvertError` where the layout is not conv3d, and `UnsafeQuantizationError`
    where the quantisation method would, or might, break the result.
    """
    label = checkpoint.repository.label
    if checkpoint.layout != Layout.CONV3D:
        raise NothingToConvertError(
            f"{label}: the patch embedding is {checkpoint.layout} already, nothing to convert",
            hint="`conv2linear verify` checks such a checkpoint, `conv2linear restore` undoes it",
        )
    skip_list = plan_skip_list(read_quantization(checkpoint.config))
    if skip_list.refusal_reason and not allow_unsafe_quantization:
        raise UnsafeQuantizationError(
            f"{label}: {skip_list.refusal_reason}",
            hint="--allow-unsafe-quantization converts it all the same: test the result",
        )
    config = edit_skip_list(enable_fusion(checkpoint.config), skip_list)
    edits: dict[str, tuple[str | None, str]] = {CONFIG_NAME: (checkpoint.config.text, config.text)}
    files = dict(checkpoint.files)
    if model_card:
        original = _read_model_card(checkpoint)
        edits[MODEL_CARD_NAME] = (original, original or "")
        files.setdefault(MODEL_CARD_NAME, FileInfo(MODEL_CARD_NAME, 0, "new"))
    headers = _linear_headers(checkpoint)
    untouched = Action.NOT_WRITTEN if changed_only else Action.COPY
    return ConversionPlan(
        checkpoint,
        tuple(_plan_file(files[name], headers, edits, untouched) for name in sorted(files)),
        partial=changed_only,
        warnings=(f"unsafe quantisation: {skip_list.refusal_reason}",)
        if skip_list.refusal_reason
        else (),
    )


def with_model_card(plan: ConversionPlan, text: str) -> ConversionPlan:
    """Fill in the text of the model card, if the plan edits it."""
    files = tuple(
        replace(file, text=text)
        if file.name == MODEL_CARD_NAME and file.action is Action.EDIT
        else file
        for file in plan.files
    )
    return replace(plan, files=files)


def _read_model_card(checkpoint: Checkpoint) -> str | None:
    if MODEL_CARD_NAME not in checkpoint.files:
        return None
    return read_text(checkpoint.repository, MODEL_CARD_NAME)


def _linear_headers(checkpoint: Checkpoint) -> dict[str, Header]:
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for embedding in checkpoint.patch_embeddings:
        shapes.setdefault(embedding.shard, {})[embedding.name] = embedding.geometry.linear_shape
    return {shard: reshape_header(checkpoint.headers[shard], new) for shard, new in shapes.items()}


def _plan_file(
    info: FileInfo,
    headers: Mapping[str, Header],
    edits: Mapping[str, tuple[str | None, str]],
    untouched: Action,
) -> PlannedFile:
    if info.name in headers:
        return PlannedFile(info, Action.RESHAPE, header=headers[info.name])
    if info.name in edits:
        original, text = edits[info.name]
        return PlannedFile(info, Action.EDIT, original=original, text=text)
    if info.name == MANIFEST_NAME:  # a new one is written
        return PlannedFile(info, Action.OMIT)
    return PlannedFile(info, untouched)
