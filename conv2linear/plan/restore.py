"""Decide what restoring does to each file."""

from __future__ import annotations

from collections.abc import Mapping

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME, disable_fusion
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.header_edit import grow_header, restore_header
from conv2linear.errors import BadCheckpointError, CheckFailedError
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.record.manifest import MANIFEST_NAME, Manifest
from conv2linear.record.model_card import MODEL_CARD_NAME, remove_section
from conv2linear.sources.base import FileInfo, read_text


def _plan_with(manifest: Manifest, checkpoint: Checkpoint) -> tuple[PlannedFile, ...]:
    """Undo exactly what is on record."""
    spelled: dict[str, dict[str, str]] = {}
    for tensor in manifest.tensors:
        if tensor.shape_before != tensor.shape_after:
            spelled.setdefault(tensor.shard, {})[tensor.name] = tensor.shape_text
    missing = spelled.keys() - checkpoint.headers.keys()
    if missing:
        raise BadCheckpointError(f"{min(missing)} is on record and missing")
    headers = {
        shard: restore_header(checkpoint.headers[shard], texts) for shard, texts in spelled.items()
    }
    for record in manifest.shards:
        header = headers.get(record.name)
        if header is None or header.sha256 != record.header_sha256_before:
            raise CheckFailedError(
                f"{record.name}: the header that the record leads to is not the original one",
                hint="shard or record were changed afterwards: `conv2linear verify` says which",
            )
    originals = {edit.name: edit.original for edit in manifest.edits}
    return tuple(
        _plan_file(info, headers, originals)
        for name, info in checkpoint.files.items()
        if name != MANIFEST_NAME and originals.get(name, "") is not None
    )


def _plan_without(checkpoint: Checkpoint) -> tuple[PlannedFile, ...]:
    """Derive the kernel's shape from config.json, and take back what the conversion adds."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for embedding in checkpoint.patch_embeddings:
        shapes.setdefault(embedding.shard, {})[embedding.name] = embedding.geometry.kernel_shape
    headers = {shard: grow_header(checkpoint.headers[shard], new) for shard, new in shapes.items()}
    texts: dict[str, str | None] = {CONFIG_NAME: disable_fusion(checkpoint.config).text}
    if MODEL_CARD_NAME in checkpoint.files:
        texts[MODEL_CARD_NAME] = remove_section(read_text(checkpoint.repository, MODEL_CARD_NAME))
    return tuple(_plan_file(info, headers, texts) for info in checkpoint.files.values())


def _plan_file(
    info: FileInfo, headers: Mapping[str, Header], texts: Mapping[str, str | None]
) -> PlannedFile:
    if info.name in headers:
        return PlannedFile(info, Action.RESHAPE, header=headers[info.name])
    if (text := texts.get(info.name)) is not None:
        return PlannedFile(info, Action.EDIT, text=text)
    return PlannedFile(info, Action.COPY)
