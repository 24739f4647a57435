"""`restore`: give back the checkpoint that a linear one was made from. Never needs torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from conv2linear.checkpoint.checkpoint import Checkpoint, read_checkpoint
from conv2linear.checkpoint.header import Header, read_header
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import BadHeaderError, CheckFailedError, NothingToConvertError
from conv2linear.files.hash import hash_file
from conv2linear.output.staging import Staging
from conv2linear.output.target import check_output, local_path, parse_out
from conv2linear.output.write import prepare_writing, write_files
from conv2linear.parallel import resolve_workers
from conv2linear.paths import StrPath
from conv2linear.plan.actions import PlannedFile
from conv2linear.plan.restore import _plan_with, _plan_without
from conv2linear.progress import NoProgress, Progress
from conv2linear.record.manifest import MANIFEST_NAME, Manifest, parse_manifest
from conv2linear.sources.base import read_text
from conv2linear.sources.open import open_source


@dataclass(frozen=True)
class Restoration:
    """A finished restoration. It is `exact` where a manifest said what each file was."""

    out: Path
    exact: bool
    files: tuple[PlannedFile, ...]
    partial: bool


def restore(
    checkpoint: StrPath,
    out: StrPath,
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
    out, progress = parse_out(out), progress or NoProgress()
    check_output(out, force=force, source=local_path(checkpoint))
    progress.step("open")
    repository = open_source(checkpoint)
    manifest = None
    if MANIFEST_NAME in repository.files:
        manifest = parse_manifest(read_text(repository, MANIFEST_NAME))
    partial = manifest is not None and manifest.partial
    opened = read_checkpoint(repository, is_overlay=partial)
    if opened.layout != Layout.LINEAR:
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
                workers=resolve_workers(workers),
                progress=progress,
            )
            progress.step("prove")
            _read_back(opened, manifest, staging.folder)
        except CheckFailedError:
            staging.discard()
            raise
        staging.publish(replace=force)
    return Restoration(out, manifest is not None, files, partial)


def _read_written(path: Path) -> Header:
    try:
        return read_header(path)
    except BadHeaderError as error:
        raise CheckFailedError(f"{path.name} was not written as planned: {error}") from error


def _read_back(checkpoint: Checkpoint, manifest: Manifest | None, folder: Path) -> None:
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
