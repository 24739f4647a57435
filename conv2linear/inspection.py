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
class Inspection:
    """What a checkpoint is. `obstacle` says why it cannot be converted, None if it can.

    `download_bytes` and `write_bytes` are what `convert` would move, and `changed_only_bytes` what
    it would both download and write with `changed_only`; 0 if it cannot.
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
    download_bytes: int
    write_bytes: int
    obstacle: str | None


def inspect_checkpoint(source: str | Path, *, revision: str | None = None) -> Inspection:
    """Read config, index and headers of a folder or Hub repository, and no tensor.

    Raises `SourceNotFoundError`, `HubError`, `BadCheckpointError` or `UnsupportedCheckpointError`.
    """
    checkpoint = open_checkpoint(source, revision=revision)
    quantization = read_quantization(checkpoint.config)
    download_bytes, write_bytes, obstacle = _conversion_cost(checkpoint)
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
        download_bytes=download_bytes,
        write_bytes=write_bytes,
        obstacle=obstacle,
    )


def _conversion_cost(checkpoint: Checkpoint) -> tuple[int, int, str | None]:
    if checkpoint.layout != CONV3D:
        return 0, 0, f"the patch embedding is {checkpoint.layout} already"
    try:
        plan = build_plan(checkpoint, model_card=False)  # reading it would be a download
    except UnsupportedCheckpointError as error:
        return 0, 0, str(error)
    return plan.download_bytes, plan.output_bytes, None
