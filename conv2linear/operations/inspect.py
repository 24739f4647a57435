"""`inspect`: say what a checkpoint is, and what converting it would take."""

from __future__ import annotations

from conv2linear.checkpoint.adapter.adapter import is_adapter
from conv2linear.checkpoint.checkpoint import Checkpoint, read_checkpoint
from conv2linear.checkpoint.compatibility import assess_checkpoint
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.checkpoint.quantization.quantization import read_quantization
from conv2linear.checkpoint.quantization.skip_list_audit import audit_skip_list
from conv2linear.errors import UnsupportedCheckpointError
from conv2linear.operations.adapter.inspect import inspect_adapter
from conv2linear.operations.attestations import read_attestations
from conv2linear.operations.inspection import Cost, InspectedEmbedding, Inspection
from conv2linear.paths import StrPath
from conv2linear.plan.convert import ConversionOptions, ConversionPlan, as_overlay, build_plan
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.record.converted import read_text_if_it_is
from conv2linear.record.manifest import MANIFEST_NAME
from conv2linear.sources.open import open_source


def inspect_checkpoint(
    source: StrPath,
    *,
    revision: str | None = None,
    subfolder: str = "",
    progress: Progress | None = None,
) -> Inspection:
    """Read config, index and headers of a checkpoint or an adapter, and no tensor.

    Args:
        source: a folder, or `org/name[@revision]` on the Hub, or its address there.
        revision: branch, tag or commit of a Hub repository.
        subfolder: the folder of the source that the checkpoint is in, as for `from_pretrained`.
        progress: told of steps and warnings.

    Raises `SourceNotFoundError`, `HubError`, `BadCheckpointError` or `UnsupportedCheckpointError`.
    """
    told = RecordedProgress(progress)
    told.step("read headers")
    repository = open_source(source, revision=revision)
    if not subfolder and is_adapter(repository.files):
        return inspect_adapter(repository, told)
    checkpoint = read_checkpoint(repository, subfolder=subfolder)
    told.warn_all(repository.warnings)
    quantization = read_quantization(checkpoint.config)
    full, overlay, refusal_reason = _plan_both(checkpoint)
    told.warn_all(full.warnings if full else checkpoint.warnings)
    return Inspection(
        source=checkpoint.repository.label,
        origin=checkpoint.repository.origin,
        model_type=checkpoint.config.model_type,
        layout=checkpoint.layout,
        embeddings=tuple(
            InspectedEmbedding(
                name=e.name,
                shard=e.shard,
                dtype=e.dtype,
                shape=e.shape,
                linear_shape=e.geometry.linear_shape,
            )
            for e in checkpoint.patch_embeddings
        ),
        quantization=quantization.method if quantization else None,
        skip_list=audit_skip_list(checkpoint.config, checkpoint.headers) if quantization else None,
        shard_count=len(checkpoint.headers),
        file_count=len(checkpoint.files),
        total_bytes=checkpoint.total_bytes,
        compatibility=assess_checkpoint(checkpoint),
        converted=full.compatibility if full else None,
        full=_cost(full),
        changed_only=_cost(overlay),
        refusal_reason=refusal_reason,
        warnings=told.warnings,
    )


def _plan_both(
    checkpoint: Checkpoint,
) -> tuple[ConversionPlan | None, ConversionPlan | None, str | None]:
    """Plan a conversion and an overlay, or say why there can be none."""
    if checkpoint.layout is not Layout.CONV3D:
        return None, None, f"the patch embedding is {checkpoint.layout} already"
    try:
        full = build_plan(
            checkpoint,
            ConversionOptions(model_card=False),  # reading the card would be a download
            old_record=read_text_if_it_is(checkpoint.repository, MANIFEST_NAME),
            attestations=read_attestations(checkpoint.repository),
        )
    except UnsupportedCheckpointError as error:
        return None, None, f"{error}; {error.hint}" if error.hint else str(error)
    return full, as_overlay(full), None


def _cost(plan: ConversionPlan | None) -> Cost | None:
    return Cost(plan.download_bytes, plan.write_bytes) if plan else None
