"""`restore` for an adapter: back to the Conv3d layout of its base. Never needs torch."""

from __future__ import annotations

from pathlib import Path

from conv2linear.checkpoint.adapter.base import fetch_base, find_base
from conv2linear.checkpoint.adapter.peft_adapter import read_adapter
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import BadCheckpointError
from conv2linear.operations.adapter.convert import new_output, read_back_adapter
from conv2linear.operations.restoration import Restoration
from conv2linear.output.preflight import refuse_impossible
from conv2linear.output.restored import compare_files
from conv2linear.output.staging import Staging
from conv2linear.output.target import WriteOptions
from conv2linear.output.write import prepare_staging, write_contents, write_texts
from conv2linear.plan.actions import Action, summarise_files
from conv2linear.plan.adapter import AdapterPlan, plan_adapter
from conv2linear.plan.adapter_restore import plan_adapter_restoration
from conv2linear.progress import RecordedProgress
from conv2linear.record.comparison import (
    changed,
    read_intact_manifest,
    recover_git_attributes,
    refuse_changed_edits,
    refuse_changed_listing,
)
from conv2linear.record.manifest import Manifest
from conv2linear.sources.base import Repository


def restore_adapter(
    repository: Repository, out: Path, writing: WriteOptions, *, told: RecordedProgress
) -> Restoration:
    """Write the adapter for the Conv3d layout that a linear one was made from, or is equal to.

    With a record every file comes back byte for byte. Without one the kernel's shape comes from
    the base's config.json, which the Hub is asked for where the base is not on this machine.

    Raises what `restore` raises.
    """
    manifest = read_intact_manifest(repository)
    plan = _plan(repository, manifest)
    files = plan.written
    for warning in plan.warnings:
        told.warn(warning)
    refuse_impossible(files, out, writing, new=new_output(files))
    with Staging(out, writing, new=new_output(files)) as staging:
        prepare_staging(files, staging)
        write_contents(files, repository, staging=staging, progress=told)
        write_texts(files, plan.texts, staging=staging)
        told.step("read back")
        read_back_adapter(plan.adapter, plan.header, staging.folder)
        sizes_only = compare_files(files, manifest, staging, progress=told)
        told.step("publish")
        for warning in staging.publish():
            told.warn(warning)
    return Restoration(
        source=repository.label,
        out=out,
        exact=manifest is not None,
        partial=False,
        files=summarise_files(files),
        sizes_only=sizes_only,
        omitted=tuple(file.name for file in plan.with_action(Action.OMIT)),
        warnings=told.warnings,
    )


def _plan(repository: Repository, manifest: Manifest | None) -> AdapterPlan:
    """Open an adapter and plan its restoration, if it still is what its record says."""
    if manifest is None:
        adapter = read_adapter(repository)
        is_linear = adapter.layout is Layout.LINEAR  # only then the kernel's shape is needed
        base = fetch_base(adapter.config) if is_linear else find_base(adapter.config)
        return plan_adapter(adapter, Layout.CONV3D, base=base)
    refuse_changed_listing(repository.files, manifest)
    refuse_changed_edits(repository, manifest)
    git_attributes = recover_git_attributes(repository, manifest)
    try:
        adapter = read_adapter(repository)
    except BadCheckpointError as error:
        raise changed(f"{repository.label} is not what its record says: {error}") from error
    return plan_adapter_restoration(adapter, manifest, git_attributes=git_attributes)
