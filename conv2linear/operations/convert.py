"""`convert`: open, plan, check, write, read back, record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from conv2linear.checkpoint.adapter.adapter import is_adapter
from conv2linear.checkpoint.checkpoint import read_checkpoint
from conv2linear.checkpoint.loaders import ALL_LOADERS, resolve_loaders
from conv2linear.checkpoint.stored_layer import StoredLayer, read_layer
from conv2linear.equivalence.loading_torch import loading_torch
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.errors import CheckFailedError
from conv2linear.operations.adapter.convert import (
    convert_adapter,
    plan_adapter_conversion,
    refuse_adapter_output,
)
from conv2linear.operations.attestations import read_attestations
from conv2linear.operations.conversion import Conversion
from conv2linear.output.preflight import refuse_impossible
from conv2linear.output.readback import ExpectedTensor, check_with_library, read_back_shard
from conv2linear.output.record import Evidence, build_record
from conv2linear.output.replacement import NewOutput
from conv2linear.output.staging import Staging
from conv2linear.output.target import WriteOptions, parse_out, refuse_output
from conv2linear.output.write import prepare_staging, write_contents_beside, write_texts
from conv2linear.parallel import resolve_workers
from conv2linear.paths import StrPath
from conv2linear.plan.actions import Action
from conv2linear.plan.adapter import AdapterPlan
from conv2linear.plan.convert import ConversionOptions, ConversionPlan, build_plan
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.record.converted import read_text_if_it_is
from conv2linear.record.manifest import MANIFEST_NAME, dump_manifest
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.sources.open import open_source

_DEVICES_OF_ALL = ("auto", "cpu")  # every machine has them: a plan needs no torch to know that


def plan_conversion(
    source: StrPath,
    *,
    out: StrPath | None = None,
    revision: str | None = None,
    device: str = "auto",
    hardlink: bool = False,
    force: bool = False,
    allow_unsafe_quantization: bool = False,
    changed_only: bool = False,
    model_card: bool = True,
    loaders: str | Iterable[str] = ALL_LOADERS,
    subfolder: str = "",
    progress: Progress | None = None,
) -> ConversionPlan | AdapterPlan:
    """Open a checkpoint, or an adapter, and decide what converting it would do; nothing is written.

    The parameters are those of `convert`. Raises `SourceNotFoundError`, `HubError`,
    `BadCheckpointError`, `UnsupportedCheckpointError`, and its subclasses `NothingToConvertError`
    and `UnsafeQuantizationError`; `DeviceError` where this machine has no such `device`; with `out`
    also `OutputError` where a conversion would be refused to write there.
    """
    target, told = None if out is None else parse_out(out), RecordedProgress(progress)
    if device not in _DEVICES_OF_ALL:
        with loading_torch(told):
            from conv2linear.equivalence.device import resolve_device
        resolve_device(device)
    told.step("open")
    if target is not None:
        refuse_output(target, force=force, source=source)
    options = ConversionOptions(
        changed_only=changed_only,
        model_card=model_card,
        allow_unsafe_quantization=allow_unsafe_quantization,
        loaders=resolve_loaders(loaders),
    )
    repository = open_source(source, revision=revision)
    writing = WriteOptions(hardlink=hardlink, force=force)
    if not subfolder and is_adapter(repository.files):
        adapter_plan = plan_adapter_conversion(repository, changed_only=changed_only)
        if target is not None:
            refuse_adapter_output(adapter_plan, target, writing)
        told.warn_all([*adapter_plan.warnings, *repository.warnings])
        return replace(adapter_plan, warnings=told.warnings)
    checkpoint = read_checkpoint(repository, subfolder=subfolder)
    card = read_text_if_it_is(checkpoint.repository, MODEL_CARD_NAME) if model_card else None
    plan = build_plan(
        checkpoint,
        options,
        model_card=card,
        old_record=read_text_if_it_is(checkpoint.repository, MANIFEST_NAME),
        attestations=read_attestations(checkpoint.repository),
    )
    if target is not None:
        refuse_impossible(plan.written, target, writing, new=_new_output(plan))
    told.warn_all([*plan.warnings, *checkpoint.repository.warnings])
    return replace(plan, warnings=told.warnings)


def convert(
    source: StrPath,
    out: StrPath,
    *,
    revision: str | None = None,
    device: str = "auto",
    hardlink: bool = False,
    force: bool = False,
    workers: int | None = None,
    allow_unsafe_quantization: bool = False,
    changed_only: bool = False,
    model_card: bool = True,
    loaders: str | Iterable[str] = ALL_LOADERS,
    subfolder: str = "",
    progress: Progress | None = None,
) -> Conversion:
    """Write a copy of a checkpoint whose patch embeddings are linear weights `[O, C·T·P·P]`.

    An adapter of PEFT comes out as one for the linear checkpoint: what it has of the layer is
    reshaped and renamed, and its config names the layer as it is called there.

    The source is never touched; `out` appears complete, after everything has been checked, or not
    at all.

    Args:
        source: a folder, or `org/name[@revision]` on the Hub, or its address there.
        out: the folder to make.
        revision: branch, tag or commit of a Hub repository.
        device: where the equivalence is checked: auto, cpu, cuda or cuda:N.
        hardlink: link unchanged files instead of copying them.
        force: replace `out` if it is a checkpoint.
        workers: number of threads that copy or download; None for 4 to 8.
        allow_unsafe_quantization: convert although the quantisation method may break the result.
        changed_only: write an overlay: the reshaped shards, the edited texts and the record.
        model_card: add a section to README.md.
        subfolder: the folder of the source that the checkpoint is in, as for `from_pretrained`; all
            other files of the source come along as they are.
        loaders: what the result is made for, of transformers, vllm and sglang. Without transformers
            it has no `fusion_config`, so that transformers stops with an error, and any
            quantisation method will do.
        progress: told of steps, bytes and warnings.

    Raises `CheckFailedError` where the linear layer is not the same map, `OutputError` where `out`
    cannot be written, `DeviceError`, and what `plan_conversion` raises.
    """
    target, told = parse_out(out), RecordedProgress(progress)
    writing = WriteOptions(hardlink=hardlink, force=force, workers=resolve_workers(workers))
    plan = plan_conversion(
        source,
        out=target,
        revision=revision,
        device=device,
        hardlink=hardlink,
        force=force,
        allow_unsafe_quantization=allow_unsafe_quantization,
        changed_only=changed_only,
        model_card=model_card,
        subfolder=subfolder,
        progress=told,
        loaders=loaders,
    )
    if isinstance(plan, AdapterPlan):
        return convert_adapter(plan, target, writing, device=device, told=told)
    with Staging(target, writing, new=_new_output(plan)) as staging:
        prepare_staging(plan.written, staging)
        evidence = _check_and_write(plan, staging, device=device, told=told)
        record = build_record(plan, evidence, staging.folder)
        write_texts(plan.written, record.texts, staging=staging)
        told.step("read back")
        _read_back(plan, evidence, staging.folder)
        staging.write_text(MANIFEST_NAME, dump_manifest(record.manifest))
        told.step("publish")
        told.warn_all(staging.publish())
    return Conversion(
        source=plan.checkpoint.repository.label,
        out=target,
        checks=evidence.outcomes,
        manifest=record.manifest,
        shard_count=len(plan.checkpoint.headers),
        omitted=tuple(file.name for file in plan.with_action(Action.OMIT)),
        compatibility=plan.compatibility,
        warnings=told.warnings,
    )


def _new_output(plan: ConversionPlan) -> NewOutput:
    return NewOutput(
        names=frozenset({MANIFEST_NAME, *(file.name for file in plan.written)}),
        model_type=plan.checkpoint.config.model_type,
        partial=plan.partial,
    )


def _check_and_write(
    plan: ConversionPlan, staging: Staging, *, device: str, told: RecordedProgress
) -> Evidence:
    """Check the patch embeddings, which are read before so that a download takes them over."""
    layers = [read_layer(plan.checkpoint, embedding) for embedding in plan.embeddings]
    return write_contents_beside(
        lambda: _check(plan, layers, device=device, progress=told),
        plan.written,
        plan.checkpoint.repository,
        staging=staging,
        progress=told,
    )


def _check(
    plan: ConversionPlan, layers: Sequence[StoredLayer], *, device: str, progress: Progress
) -> Evidence:
    """Check each patch embedding as the new header will show it."""
    with loading_torch(progress):
        from conv2linear.equivalence.device import choose_device
        from conv2linear.equivalence.load import check_patch_embedding

    chosen = choose_device(device, warn=progress.warn)
    headers = {file.name: file.header for file in plan.reshaped if file.header}
    outcomes: list[Equivalence] = []
    sha256: dict[str, str] = {}
    for layer in layers:
        embedding = layer.embedding
        sha256 |= layer.hashes()
        planned = headers[embedding.shard].tensors[embedding.name]
        outcome = check_patch_embedding(
            layer, linear=planned, source=layer, device=chosen, progress=progress
        )
        if outcome.failure:
            raise CheckFailedError(
                f"{embedding.name} is not the same map as a linear layer: {outcome.failure}",
                hint="nothing has been saved",
            )
        outcomes.append(outcome)
    return Evidence(tuple(outcomes), sha256)


def _read_back(plan: ConversionPlan, evidence: Evidence, folder: Path) -> None:
    for file in plan.reshaped:
        expected = {
            e.name: ExpectedTensor(e.geometry.linear_shape, evidence.sha256[e.name])
            for e in plan.embeddings
            if e.shard == file.name
        }
        before = plan.checkpoint.headers[file.name]
        path = folder / file.name
        check_with_library(path, read_back_shard(path, before, expected))
