"""Turn what was decided and found into the record of a conversion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from conv2linear.checkpoint.header_edit import shape_text
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.errors import CheckFailedError
from conv2linear.files.hash import hash_file
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.plan.convert import ConversionPlan
from conv2linear.plan.edits import convert_model_card
from conv2linear.record.consistency import complete_listing
from conv2linear.record.manifest import (
    MANIFEST_NAME,
    SMALL_BYTES,
    CheckRecord,
    EditRecord,
    FileRecord,
    LeftOutRecord,
    Manifest,
    ShardRecord,
    TensorRecord,
)
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.sources.base import FileInfo, Origin, check_unchanged
from conv2linear.version import __version__


@dataclass(frozen=True)
class Evidence:
    """What the check found: an outcome for each patch embedding, in their order.

    `sha256` is that of the bytes of each patch embedding and each bias, by name.
    """

    outcomes: tuple[Equivalence, ...]
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class ConversionRecord:
    """What an output says of its own conversion: the manifest, and the texts of edited files."""

    manifest: Manifest
    texts: Mapping[str, str]


def build_record(plan: ConversionPlan, evidence: Evidence, staged: Path) -> ConversionRecord:
    """Write down what was decided and found, in the manifest and in the model card.

    `staged` is the folder with what is written. Raises `SourceChangedError` where a file that is
    not written is no longer what it was.
    """
    checkpoint = plan.checkpoint
    origin = checkpoint.repository.origin
    tensors = tuple(_tensor_records(plan, evidence.sha256))
    checks = tuple(
        record_check(embedding.name, outcome)
        for embedding, outcome in zip(plan.embeddings, evidence.outcomes, strict=True)
    )
    edits = tuple(
        EditRecord(file.name, file.original)
        for file in plan.planned
        if file.action is Action.EDIT or file.name == MANIFEST_NAME
    )
    texts = dict(plan.texts)
    for edit in edits:
        if edit.name == MODEL_CARD_NAME:
            texts[edit.name] = convert_model_card(
                edit.original,
                config=checkpoint.config,
                origin=origin,
                tensors=tensors,
                checks=checks,
                compatibility=plan.compatibility,
                files=checkpoint.files,
                subfolder=checkpoint.subfolder,
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
        files=tuple(_file_record(file, texts, origin, staged / file.name) for file in plan.written),
        absent=tuple(
            _file_record(file, texts, origin, None) for file in plan.with_action(Action.NOT_WRITTEN)
        ),
        edits=edits,
        check=checks,
        partial=plan.partial,
        compatibility=plan.compatibility,
        subfolder=checkpoint.subfolder,
        left_out=tuple(
            LeftOutRecord.of(file.name, file.content)
            for file in plan.planned
            if file.content is not None
        ),
        loaders=plan.loaders,
    )
    return ConversionRecord(complete_listing(manifest), texts)


def _tensor_records(plan: ConversionPlan, sha256: Mapping[str, str]) -> Iterator[TensorRecord]:
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
                sha256=sha256[name],
            )


def _file_record(
    file: PlannedFile, texts: Mapping[str, str], origin: Origin | None, staged: Path | None
) -> FileRecord:
    if file.action is Action.EDIT:
        content = texts[file.name].encode()
        return FileRecord(file.name, len(content), hashlib.sha256(content).hexdigest())
    sha256 = None
    if file.header is None:
        sha256 = file.info.sha256 or _hash_small_file(file.info, origin, staged)
    return FileRecord(file.name, file.output_bytes, sha256)


def _hash_small_file(info: FileInfo, origin: Origin | None, staged: Path | None) -> str | None:
    """Hash a small file of a folder, as it is `staged`, or in the source where it is not.

    A shard may take longer to hash than to copy, and what the Hub has may not be here at all: an
    overlay's record must be that of the whole output.
    """
    is_small = info.size_bytes <= SMALL_BYTES and not info.name.endswith(".safetensors")
    if not is_small or info.path is None or origin is not None:
        return None
    if staged is not None:  # the source may be another one by now
        return hash_file(staged)
    sha256 = hash_file(info.path)
    check_unchanged(info)
    return sha256


def record_check(tensor: str, outcome: Equivalence) -> CheckRecord:
    """Write down what the check found for one tensor; `CheckFailedError` where it failed."""
    linear, conv3d = outcome.linear, outcome.conv3d
    if linear is None or outcome.failure is not None:
        raise CheckFailedError(f"{tensor}: a check that failed is not recorded")
    return CheckRecord(
        tensor=tensor,
        dtype=outcome.dtype,
        basis_patches=outcome.basis_patches,
        sampled_patches=outcome.sampled_patches,
        linear_max_abs_error=linear.max_abs,
        linear_max_error_over_bound=linear.max_over_bound,
        conv3d_max_abs_error=conv3d.max_abs if conv3d else None,
        conv3d_max_error_over_bound=conv3d.max_over_bound if conv3d else None,
        conv3d_warning=outcome.warning,
        device=outcome.environment.device,
        device_name=outcome.environment.device_name,
        torch=outcome.environment.torch,
        cudnn=outcome.environment.cudnn,
    )
