"""What `inspect` returns."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.checkpoint.compatibility import Loading
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.checkpoint.quantization.skip_list_audit import SkipListAudit
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
    layout: Layout | None
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
