"""Decide what restoring does to each file; nothing is read or written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.header_edit import grow_header, restore_header
from conv2linear.checkpoint.patch_embedding import Layout, shapes_by_shard
from conv2linear.errors import BadCheckpointError, CheckFailedError, NothingToConvertError
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.plan.edits import restore_config, restore_model_card
from conv2linear.record.manifest import MANIFEST_NAME, Manifest
from conv2linear.sources.base import FileInfo


@dataclass(frozen=True)
class RestorationPlan:
    """All that a restoration will do; `texts` are those that the edited files get.

    It is `exact` where a record says what each file was, and `partial` for an overlay.
    """

    checkpoint: Checkpoint
    files: tuple[PlannedFile, ...]
    texts: Mapping[str, str]
    exact: bool
    partial: bool


def plan_restoration(
    checkpoint: Checkpoint, manifest: Manifest | None, *, model_card: str | None
) -> RestorationPlan:
    """Decide the action for each file of a linear checkpoint.

    With a manifest exactly what is on record is undone. Without one the kernel's shape comes from
    config.json, and what a conversion adds to config.json and to `model_card`, the text of
    README.md, is taken out.

    Raises `NothingToConvertError` where the layout is not linear, `CheckFailedError` where a header
    would not be the original one, and `BadCheckpointError` where record and files do not agree.
    """
    if checkpoint.layout is not Layout.LINEAR:
        raise NothingToConvertError(
            f"{checkpoint.repository.label}: the layout is {checkpoint.layout}, not linear"
        )
    if manifest is None:
        headers = _kernel_headers(checkpoint)
        texts = restore_config(checkpoint.config) | restore_model_card(model_card)
        infos = tuple(checkpoint.files.values())
    else:
        headers = _recorded_headers(checkpoint, manifest)
        originals = {edit.name: edit.original for edit in manifest.edits}
        texts = {name: text for name, text in originals.items() if text is not None}
        added = {MANIFEST_NAME, *(originals.keys() - texts.keys())}
        infos = tuple(info for name, info in checkpoint.files.items() if name not in added)
    return RestorationPlan(
        checkpoint=checkpoint,
        files=tuple(_plan_file(info, headers, texts) for info in infos),
        texts=texts,
        exact=manifest is not None,
        partial=manifest is not None and manifest.partial,
    )


def _kernel_headers(checkpoint: Checkpoint) -> dict[str, Header]:
    shapes = shapes_by_shard(checkpoint.patch_embeddings, Layout.CONV3D)
    return {shard: grow_header(checkpoint.headers[shard], new) for shard, new in shapes.items()}


def _recorded_headers(checkpoint: Checkpoint, manifest: Manifest) -> dict[str, Header]:
    shape_texts: dict[str, dict[str, str]] = {}
    for tensor in manifest.tensors:
        if tensor.shape_before != tensor.shape_after:
            shape_texts.setdefault(tensor.shard, {})[tensor.name] = tensor.shape_text
    missing = shape_texts.keys() - checkpoint.headers.keys()
    if missing:
        raise BadCheckpointError(f"{min(missing)} is on record and missing")
    headers = {
        shard: restore_header(checkpoint.headers[shard], texts)
        for shard, texts in shape_texts.items()
    }
    for record in manifest.shards:
        header = headers.get(record.name)
        if header is None or header.sha256 != record.header_sha256_before:
            raise CheckFailedError(
                f"{record.name}: the header that the record leads to is not the original one",
                hint="shard or record were changed afterwards: `conv2linear verify` says which",
            )
    return headers


def _plan_file(
    info: FileInfo, headers: Mapping[str, Header], texts: Mapping[str, str]
) -> PlannedFile:
    if header := headers.get(info.name):
        return PlannedFile(info, Action.RESHAPE, info.size_bytes, header=header)
    if (text := texts.get(info.name)) is not None:
        return PlannedFile(info, Action.EDIT, len(text.encode()))
    return PlannedFile(info, Action.COPY, info.size_bytes)
