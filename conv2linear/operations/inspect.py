"""`inspect`: say what a checkpoint is, and what converting it would take."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.checkpoint.checkpoint import Checkpoint, open_checkpoint
from conv2linear.checkpoint.compatibility import Loading, assess_checkpoint
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.checkpoint.quantization import read_quantization
from conv2linear.checkpoint.skip_list_audit import SkipListAudit, audit_skip_list
from conv2linear.errors import UnsupportedCheckpointError
from conv2linear.operations.attestations import read_attestations
from conv2linear.paths import StrPath
from conv2linear.plan.convert import ConversionOptions, ConversionPlan, build_plan
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.record.converted import read_old_record
from conv2linear.result import Result
from conv2linear.sources.base import Origin


@dataclass(frozen=True)
class InspectedEmbedding:
    """A patch embedding: its shape now, and as a linear weight `[O, K]`."""

    name: str
    shard: str
    dtype: str
    shape: tuple[int, ...]
    linear_shape: tuple[int, int]


@dataclass(frozen=True)
class Cost:
    """Bytes that a conversion would download and write."""

    download_bytes: int
    write_bytes: int


@dataclass(frozen=True)
class Inspection(Result):
    """What a checkpoint is. `refusal_reason` says why it cannot be converted, None if it can.

    `skip_list` says whether transformers' quantiser takes the layers that are stored quantised,
    None where the checkpoint is not quantised. `compatibility` says where it loads as it is.
    `converted` says where the result of `convert` would, `full` what that costs, and `changed_only`
    what an overlay costs; all None if it cannot be converted.
    `warnings` say what is odd about its files, and what converting makes wrong.
    """

    source: str
    origin: Origin | None
    model_type: str
    layout: Layout
    embeddings: tuple[InspectedEmbedding, ...]
    quantization: str | None
    skip_list: SkipListAudit | None
    shard_count: int
    file_count: int
    total_bytes: int
    compatibility: tuple[Loading, ...]
    converted: tuple[Loading, ...] | None
    full: Cost | None
    changed_only: Cost | None
    refusal_reason: str | None
    warnings: tuple[str, ...] = ()


def inspect_checkpoint(
    source: StrPath,
    *,
    revision: str | None = None,
    subfolder: str = "",
    progress: Progress | None = None,
) -> Inspection:
    """Read config, index and headers of a checkpoint, and no tensor.

    Args:
        source: a folder, or `org/name[@revision]` on the Hub, or its address there.
        revision: branch, tag or commit of a Hub repository.
        subfolder: the folder of the source that the checkpoint is in, as for `from_pretrained`.
        progress: told of steps and warnings.

    Raises `SourceNotFoundError`, `HubError`, `BadCheckpointError` or `UnsupportedCheckpointError`.
    """
    told = RecordedProgress(progress)
    told.step("read headers")
    checkpoint = open_checkpoint(source, revision=revision, subfolder=subfolder)
    told.warn_all(checkpoint.repository.warnings)
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
        full, overlay = (_plan(checkpoint, changed_only=each) for each in (False, True))
    except UnsupportedCheckpointError as error:
        return None, None, f"{error}; {error.hint}" if error.hint else str(error)
    return full, overlay, None


def _plan(checkpoint: Checkpoint, *, changed_only: bool) -> ConversionPlan:
    # Without the model card: reading it would be a download.
    return build_plan(
        checkpoint,
        ConversionOptions(changed_only=changed_only, model_card=False),
        old_record=read_old_record(checkpoint.repository),
        attestations=read_attestations(checkpoint.repository),
    )


def _cost(plan: ConversionPlan | None) -> Cost | None:
    return Cost(plan.download_bytes, plan.write_bytes) if plan else None
