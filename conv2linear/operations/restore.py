"""`restore`: give back the checkpoint that a linear one was made from. Never needs torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from conv2linear.output.readback import ExpectedTensor, hash_in_file, read_back_shard
from conv2linear.output.staging import Staging
from conv2linear.output.target import WriteOptions, parse_out, refuse_output
from conv2linear.output.write import prepare_staging, write_files
from conv2linear.parallel import resolve_workers
from conv2linear.paths import StrPath
from conv2linear.plan.actions import FileChange, summarise_files
from conv2linear.plan.restore import RestorationPlan, plan_restoration
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.record.converted import read_converted, read_manifest
from conv2linear.record.manifest import Manifest
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.result import Result
from conv2linear.sources.base import read_optional_text
from conv2linear.sources.open import open_source


@dataclass(frozen=True, repr=False)
class Restoration(Result):
    """A finished restoration.

    It is `exact` where a record said what each file was, and `partial` where the source was an
    overlay; `files` says what happened to each file of `out`.
    """

    source: str
    out: Path
    exact: bool
    partial: bool
    files: tuple[FileChange, ...]
    warnings: tuple[str, ...]


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

    With a record every file comes back byte for byte, and is proven to. Without one the kernel's
    shape comes from config.json, and a header that is too short for it grows. `out` appears
    complete or not at all.

    Args:
        checkpoint: a folder, or `org/name[@revision]` on the Hub.
        out: the folder to make.
        hardlink: link unchanged files instead of copying them.
        force: replace `out` if it is a checkpoint.
        workers: number of threads that copy or download; None for 4 to 8.
        progress: told of steps, bytes and warnings.

    Raises `CheckFailedError` where the result would not be what is on record,
    `NothingToConvertError` where the checkpoint is not linear, `OutputError`,
    `SourceNotFoundError` and `BadCheckpointError`.
    """
    target, told = parse_out(out), RecordedProgress(progress)
    writing = WriteOptions(hardlink=hardlink, force=force, workers=resolve_workers(workers))
    refuse_output(target, force=force, source=checkpoint)
    told.step("open")
    repository = open_source(checkpoint)
    manifest = read_manifest(repository)
    plan = plan_restoration(
        read_converted(repository, manifest),
        manifest,
        model_card=None if manifest else read_optional_text(repository, MODEL_CARD_NAME),
    )
    with Staging(target, writing) as staging:
        prepare_staging(plan.files, staging)
        write_files(plan.files, repository, texts=plan.texts, staging=staging, progress=told)
        told.step("read back")
        _read_back(plan, manifest, staging.folder)
        told.step("publish")
        staging.publish()
    return Restoration(
        source=repository.label,
        out=target,
        exact=plan.exact,
        partial=plan.partial,
        files=summarise_files(plan.files),
        warnings=told.warnings,
    )


def _read_back(plan: RestorationPlan, manifest: Manifest | None, folder: Path) -> None:
    """Compare every reshaped tensor as it was written with the record, or with what was read."""
    checkpoint = plan.checkpoint
    recorded = {tensor.name: tensor.sha256 for tensor in manifest.tensors} if manifest else {}
    expected: dict[str, dict[str, ExpectedTensor]] = {}
    for e in checkpoint.patch_embeddings:
        sha256 = recorded.get(e.name)
        if sha256 is None:
            sha256 = hashlib.sha256(checkpoint.read_tensor(e.shard, e.name)).hexdigest()
        tensor = ExpectedTensor(e.geometry.kernel_shape, sha256)
        expected.setdefault(e.shard, {})[e.name] = tensor
    for shard, tensors in expected.items():
        before = checkpoint.headers[shard]
        read_back_shard(folder / shard, before, tensors, hash_tensors=hash_in_file)
