"""Turn what was decided and found into the record of a conversion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from conv2linear.checkpoint.header_edit import shape_text
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.plan.convert import ConversionPlan, with_model_card
from conv2linear.record.manifest import (
    CheckRecord,
    EditRecord,
    FileRecord,
    Manifest,
    ShardRecord,
    TensorRecord,
)
from conv2linear.record.model_card import MODEL_CARD_NAME, edit_model_card
from conv2linear.version import __version__

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence


def _record(
    plan: ConversionPlan, checks: tuple[Equivalence, ...], hashes: Mapping[str, str]
) -> tuple[ConversionPlan, Manifest]:
    """Write the model card into the plan, and all that was decided and found into a manifest.

    `hashes` is the SHA-256 of the bytes of each patch embedding and bias, by name.
    """
    checkpoint = plan.checkpoint
    origin = checkpoint.repository.origin
    tensors = tuple(_tensor_records(plan, hashes))
    records = tuple(
        _check_record(e.name, check) for e, check in zip(plan.embeddings, checks, strict=True)
    )
    edits = plan.with_action(Action.EDIT)
    card = next((file.original for file in edits if file.name == MODEL_CARD_NAME), None)
    plan = with_model_card(
        plan,
        edit_model_card(card, tool=__version__, origin=origin, tensors=tensors, checks=records),
    )
    manifest = Manifest(
        tool=__version__,
        source=origin,
        model_type=checkpoint.config.model_type,
        tensors=tensors,
        shards=tuple(
            ShardRecord(file.name, checkpoint.headers[file.name].sha256, file.header.sha256)
            for file in plan.reshaped
            if file.header
        ),
        files=tuple(_file_record(file) for file in plan.written),
        absent=tuple(_file_record(file) for file in plan.with_action(Action.NOT_WRITTEN)),
        edits=tuple(EditRecord(file.name, file.original) for file in edits),
        check=records,
        partial=plan.partial,
    )
    return plan, manifest


def _tensor_records(plan: ConversionPlan, hashes: Mapping[str, str]) -> Iterator[TensorRecord]:
    for e in plan.embeddings:
        places = {e.name: e.shard} | ({e.bias: e.bias_shard} if e.bias and e.bias_shard else {})
        for name, shard in places.items():
            header = plan.checkpoint.headers[shard]
            info = header.tensors[name]
            yield TensorRecord(
                name=name,
                shard=shard,
                dtype=info.dtype,
                shape_before=info.shape,
                shape_after=e.geometry.linear_shape if name == e.name else info.shape,
                shape_text=shape_text(header.text, name),
                sha256=hashes[name],
            )


def _file_record(file: PlannedFile) -> FileRecord:
    if file.text is not None:
        sha256: str | None = hashlib.sha256(file.text.encode()).hexdigest()
    else:
        sha256 = None if file.header else file.info.sha256
    return FileRecord(file.name, file.output_bytes, sha256)


def _check_record(tensor: str, check: Equivalence) -> CheckRecord:
    assert check.linear  # a check that failed is never recorded
    assert check.conv3d
    return CheckRecord(
        tensor=tensor,
        dtype=check.dtype,
        basis_patches=check.basis_patches,
        sampled_patches=check.sampled_patches,
        linear_max_abs_error=check.linear.max_abs,
        linear_max_error_over_bound=check.linear.max_over_bound,
        conv3d_max_abs_error=check.conv3d.max_abs,
        conv3d_max_error_over_bound=check.conv3d.max_over_bound,
        conv3d_warning=check.warning,
        device=check.environment.device,
        device_name=check.environment.device_name,
        torch=check.environment.torch,
        cudnn=check.environment.cudnn,
    )
