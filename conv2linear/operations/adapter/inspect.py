"""`inspect` for an adapter: what it has of the patch embedding, and what converting it takes."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.checkpoint.adapter.adapter import ADAPTER_MODEL_TYPE
from conv2linear.checkpoint.adapter.base import find_base
from conv2linear.checkpoint.adapter.peft_adapter import read_adapter
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError
from conv2linear.operations.inspection import Cost, Inspection
from conv2linear.plan.adapter import plan_adapter
from conv2linear.progress import RecordedProgress
from conv2linear.sources.base import Repository


@dataclass(frozen=True)
class AdapterTensor:
    """A tensor that an adapter has of a patch embedding, and what it is for a linear one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    linear_name: str
    linear_shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class AdapterInspection(Inspection):
    """What an adapter of PEFT is.

    `layout` is that of the base that its `tensors` fit, None where it has none of a patch embedding
    and fits both; `base` is the checkpoint that it names as its own.
    """

    peft_type: str
    base: str | None
    tensors: tuple[AdapterTensor, ...]
    tensor_count: int
    is_change_needed: bool


def inspect_adapter(repository: Repository, told: RecordedProgress) -> AdapterInspection:
    """Read config and header of an adapter, and no tensor. Raises what `read_adapter` raises."""
    adapter = read_adapter(repository)
    plan, refusal_reason = None, None
    try:
        plan = plan_adapter(adapter, Layout.LINEAR, base=find_base(adapter.config))
    except (UnsupportedCheckpointError, BadCheckpointError) as error:
        refusal_reason = str(error)
    told.warn_all(repository.warnings)
    return AdapterInspection(
        source=repository.label,
        origin=repository.origin,
        model_type=ADAPTER_MODEL_TYPE,
        layout=adapter.layout,
        embeddings=(),
        quantization=None,
        skip_list=None,
        shard_count=1,
        file_count=len(repository.files),
        total_bytes=sum(info.size_bytes for info in repository.files.values()),
        compatibility=(),
        converted=() if plan else None,
        full=Cost(plan.download_bytes, plan.write_bytes) if plan else None,
        changed_only=None,
        refusal_reason=refusal_reason,
        warnings=told.warnings,
        peft_type=adapter.config.peft_type,
        base=adapter.config.base,
        tensors=tuple(
            AdapterTensor(
                name=t.name,
                dtype=t.info.dtype,
                shape=t.info.shape,
                linear_name=t.name_in(Layout.LINEAR),
                linear_shape=t.shape_in(Layout.LINEAR),
            )
            for t in adapter.tensors
        ),
        tensor_count=len(adapter.header.tensors),
        is_change_needed=plan.is_needed if plan else False,
    )
