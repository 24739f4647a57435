"""`inspect`: say what a checkpoint is, and what converting it would take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conv2linear.checkpoint import CONV3D, Checkpoint, Origin
from conv2linear.errors import UnsupportedCheckpointError
from conv2linear.opening import open_checkpoint
from conv2linear.plan import build_plan
from conv2linear.quantization import read_quantization


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
class Inspection:
    """What a checkpoint is. `obstacle` says why it cannot be converted, None if it can.

    `full` is what `convert` would cost, `changed_only` the same for an overlay; None if it cannot.
    """

    source: str
    origin: Origin | None
    model_type: str
    layout: str
    embeddings: tuple[InspectedEmbedding, ...]
    quantization: str | None
    shards: int
    files: int
    total_bytes: int
    full: Cost | None
    changed_only: Cost | None
    obstacle: str | None


def inspect_checkpoint(source: str | Path, *, revision: str | None = None) -> Inspection:
    """Read config, index and headers of a folder or Hub repository, and no tensor.

    Raises `SourceNotFoundError`, `HubError`, `BadCheckpointError` or `UnsupportedCheckpointError`.
    """
    checkpoint = open_checkpoint(source, revision=revision)
    quantization = read_quantization(checkpoint.config)
    full, changed_only, obstacle = _conversion_costs(checkpoint)
    return Inspection(
        source=checkpoint.repository.label,
        origin=checkpoint.repository.origin,
        model_type=checkpoint.config.model_type,
        layout=checkpoint.layout,
        embeddings=tuple(
            InspectedEmbedding(e.name, e.shard, e.dtype, e.shape, e.geometry.linear_shape)
            for e in checkpoint.patch_embeddings
        ),
        quantization=quantization.method if quantization else None,
        shards=len(checkpoint.headers),
        files=len(checkpoint.files),
        total_bytes=checkpoint.total_bytes,
        full=full,
        changed_only=changed_only,
        obstacle=obstacle,
    )


def _conversion_costs(checkpoint: Checkpoint) -> tuple[Cost | None, Cost | None, str | None]:
    if checkpoint.layout != CONV3D:
        return None, None, f"the patch embedding is {checkpoint.layout} already"
    try:  # without the model card: reading it would be a download
        full = build_plan(checkpoint, model_card=False)
        overlay = build_plan(checkpoint, model_card=False, changed_only=True)
    except UnsupportedCheckpointError as error:
        return None, None, str(error)
    return (
        Cost(full.download_bytes, full.output_bytes),
        Cost(overlay.download_bytes, overlay.output_bytes),
        None,
    )
