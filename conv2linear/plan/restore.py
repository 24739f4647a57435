"""Decide what restoring does to each file; nothing is read or written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.header_edit import grow_header, restore_header
from conv2linear.checkpoint.patch_embedding import Layout, shapes_by_shard
from conv2linear.errors import CheckFailedError, NothingToConvertError
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.plan.edits import restore_config, restore_model_card
from conv2linear.record.comparison import changed, refuse_other_tensors
from conv2linear.record.git_attributes import GIT_ATTRIBUTES
from conv2linear.record.manifest import MANIFEST_NAME, Manifest
from conv2linear.sources.base import FileInfo


@dataclass(frozen=True)
class RestorationPlan:
    """All that a restoration will do; `texts` are those that the edited files get.

    It is `exact` where a record says what each file was, and `partial` for an overlay. `omitted`
    names what the checkpoint has and the result lacks.
    """

    checkpoint: Checkpoint
    files: tuple[PlannedFile, ...]
    texts: Mapping[str, str | bytes]
    omitted: tuple[str, ...]
    exact: bool
    partial: bool


def plan_restoration(
    checkpoint: Checkpoint,
    manifest: Manifest | None,
    *,
    model_card: str | None = None,
    git_attributes: str | None = None,
) -> RestorationPlan:
    """Decide the action for each file of a linear checkpoint.

    With a manifest exactly what is on record is undone; `git_attributes` is the original text of a
    `.gitattributes` that was extended, None where it was not. Without a manifest the kernel's shape
    comes from config.json, and what a conversion adds to config.json and to `model_card`, the text
    of README.md, is taken out.

    Raises `NothingToConvertError` where the layout is not linear, and `CheckFailedError` where a
    header is not the one on record, or would not be the original one.
    """
    if manifest is not None:
        refuse_other_tensors(checkpoint, manifest)
    if checkpoint.layout is not Layout.LINEAR:
        raise NothingToConvertError(
            f"{checkpoint.repository.label}: the layout is {checkpoint.layout}, not linear",
            hint="there is nothing to undo: it is as it was before a conversion",
        )
    names = set(checkpoint.files)
    texts: dict[str, str | bytes] = {}
    if manifest is None:
        headers = _kernel_headers(checkpoint)
        texts |= restore_config(checkpoint) | restore_model_card(model_card)
    else:
        headers = original_headers(checkpoint, manifest)
        texts |= original_texts(manifest, git_attributes)
        texts |= {record.name: record.content for record in manifest.left_out}
        names &= {record.name for record in manifest.files}
        names -= {edit.name for edit in manifest.edits}
        names |= texts.keys()
    left_out = checkpoint.files.keys() - names
    return RestorationPlan(
        checkpoint=checkpoint,
        files=tuple(
            _plan_file(checkpoint.files.get(name, FileInfo(name, 0, "new")), headers, texts)
            for name in sorted(names)
        ),
        texts=texts,
        omitted=tuple(sorted([*left_out, *checkpoint.repository.omitted])),
        exact=manifest is not None,
        partial=manifest is not None and manifest.partial,
    )


def original_texts(manifest: Manifest, git_attributes: str | None) -> dict[str, str]:
    """Return the texts on record of the files that a conversion edited, by name.

    `git_attributes` is the original one where it was extended. Raises `CheckFailedError` where the
    record does not have them all.
    """
    originals = {edit.name: edit.original for edit in manifest.edits}
    if originals.get(MANIFEST_NAME, "") is None:
        raise CheckFailedError(
            f"{MANIFEST_NAME} of the source was not text, so the record does not have it: not "
            "every file can be given back",
            hint="without the record a restoration goes by config.json: remove it first",
        )
    originals[GIT_ATTRIBUTES] = git_attributes
    return {name: text for name, text in originals.items() if text is not None}


def _kernel_headers(checkpoint: Checkpoint) -> dict[str, Header]:
    shapes = shapes_by_shard(checkpoint.patch_embeddings, Layout.CONV3D)
    return {shard: grow_header(checkpoint.headers[shard], new) for shard, new in shapes.items()}


def original_headers(checkpoint: Checkpoint, manifest: Manifest) -> dict[str, Header]:
    """Return the headers that reshaped shards had, by shard, as the record says.

    Raises `CheckFailedError` where it does not lead to them, and `BadHeaderError`.
    """
    shape_texts: dict[str, dict[str, str]] = {}
    for tensor in manifest.tensors:
        if tensor.shape_before != tensor.shape_after:
            shape_texts.setdefault(tensor.shard, {})[tensor.name] = tensor.shape_text
    missing = shape_texts.keys() - checkpoint.headers.keys()
    if missing:
        raise changed(f"{min(missing)} is on record and missing")
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
    info: FileInfo, headers: Mapping[str, Header], texts: Mapping[str, str | bytes]
) -> PlannedFile:
    if header := headers.get(info.name):
        return PlannedFile(info, Action.RESHAPE, info.size_bytes, header=header)
    if (text := texts.get(info.name)) is not None:
        content = text if isinstance(text, bytes) else text.encode()
        return PlannedFile(info, Action.EDIT, len(content))
    return PlannedFile(info, Action.COPY, info.size_bytes)
