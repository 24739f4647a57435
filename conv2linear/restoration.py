"""`restore`: give back the checkpoint that a linear one was made from. Never needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conv2linear.checkpoint import (
    LINEAR,
    MANIFEST_NAME,
    Checkpoint,
    FileInfo,
    read_checkpoint,
    read_text,
)
from conv2linear.config import CONFIG_NAME, disable_fusion
from conv2linear.errors import (
    BadCheckpointError,
    BadHeaderError,
    CheckFailedError,
    NothingToConvertError,
)
from conv2linear.hashing import hash_file
from conv2linear.header import Header, grow_header, read_header, restore_header
from conv2linear.manifest import Manifest, parse_manifest
from conv2linear.model_card import MODEL_CARD_NAME, remove_section
from conv2linear.opening import open_source
from conv2linear.parallel import default_workers
from conv2linear.plan import Action, PlannedFile
from conv2linear.progress import Progress, Silence
from conv2linear.staging import Staging, check_output, local_path
from conv2linear.writing import prepare_writing, write_files


@dataclass(frozen=True)
class Restoration:
    """A finished restoration. It is `exact` where a manifest said what each file was."""

    out: Path
    exact: bool
    files: tuple[PlannedFile, ...]
    partial: bool


def restore(
    checkpoint: str | Path,
    out: str | Path,
    *,
    hardlink: bool = False,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Restoration:
    """Write the Conv3d checkpoint that a linear one was made from.

    With a manifest every file comes back byte for byte, and is proven to. Without one the kernel's
    shape comes from config.json, and a header that is too short for it grows. `out` appears whole
    or not at all.

    Raises `CheckFailedError` where the result would not be what is on record,
    `NothingToConvertError` where the checkpoint is not linear, `OutputError` and
    `BadCheckpointError`.
    """
    out, progress = Path(out), progress or Silence()
    check_output(out, force=force, source=local_path(checkpoint))
    progress.step("open")
    repository = open_source(checkpoint)
    manifest = None
    if MANIFEST_NAME in repository.files:
        manifest = parse_manifest(read_text(repository, MANIFEST_NAME))
    partial = manifest is not None and manifest.partial
    opened = read_checkpoint(repository, is_overlay=partial)
    if opened.layout != LINEAR:
        raise NothingToConvertError(
            f"{repository.label}: the layout is {opened.layout}, not linear"
        )
    files = _plan_with(manifest, opened) if manifest else _plan_without(opened)
    with Staging(out) as staging:
        check_output(out, force=force, source=None)  # another run may have ended just now
        prepare_writing(files, staging, hardlink=hardlink)
        try:
            write_files(
                files,
                repository,
                staging=staging,
                hardlink=hardlink,
                workers=workers or default_workers(),
                progress=progress,
            )
            progress.step("prove")
            _prove(opened, manifest, staging.folder)
        except CheckFailedError:
            staging.discard()
            raise
        staging.publish(replace=force)
    return Restoration(out, manifest is not None, files, partial)


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
    return PlannedFile(info, Action.PASS)


def _read_written(path: Path) -> Header:
    try:
        return read_header(path)
    except BadHeaderError as error:
        raise CheckFailedError(f"{path.name} was not written as planned: {error}") from error


def _prove(checkpoint: Checkpoint, manifest: Manifest | None, folder: Path) -> None:
    """Hash every reshaped tensor as it was written, against the record or what was read."""
    recorded = {t.name: t.sha256 for t in manifest.tensors} if manifest else {}
    for embedding in checkpoint.patch_embeddings:
        shard, name = embedding.shard, embedding.name
        expected = recorded.get(name)
        if expected is None:
            expected = hashlib.sha256(checkpoint.read_tensor(shard, name)).hexdigest()
        header = _read_written(folder / shard)
        start, end = header.byte_range(name)
        if header.tensors[name].shape != embedding.geometry.kernel_shape:
            raise CheckFailedError(f"{shard}: {name} is not a conv3d kernel after restoring")
        if hash_file(folder / shard, start=start, length=end - start) != expected:
            raise CheckFailedError(f"{shard}: the bytes of {name} are not those on record")
