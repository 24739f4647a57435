"""`restore`: give back the checkpoint that a linear one was made from. Never needs torch."""

from __future__ import annotations

from functools import partial

from conv2linear.checkpoint.adapter.adapter import is_adapter
from conv2linear.errors import (
    BadCheckpointError,
    CheckFailedError,
    UnsupportedCheckpointError,
)
from conv2linear.operations.adapter.restore import restore_adapter
from conv2linear.operations.restoration import Restoration
from conv2linear.output.preflight import refuse_impossible
from conv2linear.output.replacement import NewOutput
from conv2linear.output.restored import compare_files, read_back_tensors
from conv2linear.output.staging import Staging
from conv2linear.output.target import WriteOptions, parse_out, refuse_output
from conv2linear.output.write import prepare_staging, write_contents, write_texts
from conv2linear.parallel import resolve_workers
from conv2linear.paths import StrPath
from conv2linear.plan.actions import summarise_files
from conv2linear.plan.edits import check_edits
from conv2linear.plan.restore import RestorationPlan, plan_restoration
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.record.comparison import (
    changed,
    read_intact_manifest,
    recover_git_attributes,
    refuse_changed_edits,
    refuse_changed_listing,
)
from conv2linear.record.converted import read_converted
from conv2linear.record.manifest import Manifest
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.sources.base import Repository, read_optional_text, read_text
from conv2linear.sources.open import open_source


def restore(
    checkpoint: StrPath,
    out: StrPath,
    *,
    hardlink: bool = False,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Restoration:
    """Write the Conv3d checkpoint that a linear one was made from; an adapter of PEFT likewise.

    With a record every file comes back byte for byte, and is proven to, as far as the record has
    hashes; see `Restoration.sizes_only`. Without one the kernel's shape comes from config.json (for
    an adapter its base's, from the Hub if it is not here), and a header that is too short for it
    grows. `out` appears complete or not at all.

    Args:
        checkpoint: a folder, or `org/name[@revision]` on the Hub, or its address there.
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
    if is_adapter(repository.files):
        return restore_adapter(repository, target, writing, told=told)
    manifest = read_intact_manifest(repository)
    plan = _open_and_plan(repository, manifest)
    new = NewOutput(
        names=frozenset(file.name for file in plan.files),
        model_type=plan.checkpoint.config.model_type,
        partial=plan.partial,
    )
    refuse_impossible(plan.files, target, writing, new=new)
    with Staging(target, writing, new=new) as staging:
        prepare_staging(plan.files, staging)
        write_contents(plan.files, repository, staging=staging, progress=told)
        write_texts(plan.files, plan.texts, staging=staging)
        told.step("read back")
        read_back_tensors(plan, manifest, staging.folder)
        sizes_only = compare_files(plan.files, manifest, staging, progress=told)
        told.step("publish")
        told.warn_all(staging.publish())
    return Restoration(
        source=repository.label,
        out=target,
        exact=plan.exact,
        partial=plan.partial,
        files=summarise_files(plan.files),
        sizes_only=sizes_only,
        omitted=plan.omitted,
        warnings=told.warnings,
    )


def _open_and_plan(repository: Repository, manifest: Manifest | None) -> RestorationPlan:
    """Open a checkpoint and plan its restoration, if it still is what its record says."""
    if manifest is None:
        card = read_optional_text(repository, MODEL_CARD_NAME)
        return plan_restoration(read_converted(repository, None), None, model_card=card)
    refuse_changed_listing(repository.files, manifest)
    refuse_changed_edits(repository, manifest)
    git_attributes = recover_git_attributes(repository, manifest)
    try:
        checkpoint = read_converted(repository, manifest)
        check_edits(manifest, read=partial(read_text, repository), headers=checkpoint.headers)
    except CheckFailedError as error:
        raise changed(str(error)) from error
    except (BadCheckpointError, UnsupportedCheckpointError) as error:
        raise changed(f"{repository.label} is not what its record says: {error}") from error
    return plan_restoration(checkpoint, manifest, git_attributes=git_attributes)
