"""`convert`: open, plan, check, write, prove, record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conv2linear.checkpoint import MANIFEST_NAME
from conv2linear.errors import CheckFailedError
from conv2linear.header import shape_text
from conv2linear.manifest import (
    CheckRecord,
    EditRecord,
    FileRecord,
    Manifest,
    ShardRecord,
    TensorRecord,
    dump_manifest,
)
from conv2linear.model_card import MODEL_CARD_NAME, edit_model_card
from conv2linear.opening import open_checkpoint
from conv2linear.parallel import default_workers
from conv2linear.plan import Action, ConversionPlan, PlannedFile, build_plan, with_model_card
from conv2linear.progress import Progress, Silence
from conv2linear.staging import Staging, check_output, local_path
from conv2linear.version import __version__
from conv2linear.writing import prepare_writing, write_files

if TYPE_CHECKING:
    from conv2linear.equivalence import Equivalence


@dataclass(frozen=True)
class Conversion:
    """A finished conversion; `checks` has one entry for each patch embedding, in their order."""

    out: Path
    plan: ConversionPlan
    checks: tuple[Equivalence, ...]
    manifest: Manifest


def plan_conversion(
    source: str | Path,
    *,
    revision: str | None = None,
    allow_unsafe_quantization: bool = False,
    changed_only: bool = False,
    model_card: bool = True,
) -> ConversionPlan:
    """Open a checkpoint and decide what converting it would do; nothing is written.

    Raises what `open_checkpoint` and `build_plan` raise.
    """
    checkpoint = open_checkpoint(source, revision=revision)
    return build_plan(
        checkpoint,
        allow_unsafe_quantization=allow_unsafe_quantization,
        changed_only=changed_only,
        model_card=model_card,
    )


def convert(
    source: str | Path,
    out: str | Path,
    *,
    revision: str | None = None,
    device: str = "auto",
    hardlink: bool = False,
    force: bool = False,
    workers: int | None = None,
    allow_unsafe_quantization: bool = False,
    changed_only: bool = False,
    model_card: bool = True,
    progress: Progress | None = None,
) -> Conversion:
    """Write a copy of a checkpoint whose patch embeddings are linear weights `[O, C·T·P·P]`.

    The source is a folder or `org/name[@revision]` on the Hub and is never touched; `out` appears
    whole, after everything has been checked, or not at all. `device` is where the equivalence is
    checked: auto, cpu, cuda or cuda:N. `changed_only` writes an overlay: the reshaped shards, the
    edited text files and the record. `model_card` adds a section to README.md.

    Raises `CheckFailedError` where the linear layer is not the same map, `OutputError` where
    `out` cannot be written, and what `plan_conversion` raises.
    """
    out, progress = Path(out), progress or Silence()
    check_output(out, force=force, source=local_path(source))
    progress.step("open")
    plan = plan_conversion(
        source,
        revision=revision,
        allow_unsafe_quantization=allow_unsafe_quantization,
        changed_only=changed_only,
        model_card=model_card,
    )
    for warning in plan.warnings:
        progress.warn(warning)
    with Staging(out) as staging:
        check_output(out, force=force, source=None)  # another run may have ended just now
        prepare_writing(plan.written, staging, hardlink=hardlink)
        try:
            progress.step("check")
            checks, hashes = _check(plan, device)
            for check in checks:
                if check.warning:
                    progress.warn(check.warning)
            plan, manifest = _record(plan, checks, hashes)
            write_files(
                plan.written,
                plan.checkpoint.repository,
                staging=staging,
                hardlink=hardlink,
                workers=workers or default_workers(),
                progress=progress,
            )
            progress.step("prove")
            _prove(plan, staging, hashes)
        except CheckFailedError:
            staging.discard()
            raise
        staging.write_text(MANIFEST_NAME, dump_manifest(manifest))
        staging.publish(replace=force)
    return Conversion(out, plan, checks, manifest)


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
        absent=tuple(_file_record(file) for file in plan.with_action(Action.ABSENT)),
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


def _check(plan: ConversionPlan, device: str) -> tuple[tuple[Equivalence, ...], dict[str, str]]:
    """Run the equivalence check on each patch embedding, as the new header will show it.

    Only the bytes of the patch embeddings are read. Returns the outcomes, and the SHA-256 of each
    tensor by name. Raises `CheckFailedError` at the first that is not the same map.
    """
    from conv2linear.equivalence import check_equivalence, load_bias, load_tensor, resolve_device

    torch_device = resolve_device(device)
    headers = {file.name: file.header for file in plan.reshaped if file.header}
    checks, hashes = [], {}
    for e in plan.embeddings:
        content = plan.checkpoint.read_tensor(e.shard, e.name)
        hashes[e.name] = hashlib.sha256(content).hexdigest()
        bias = plan.checkpoint.read_bias(e)
        if e.bias and bias is not None:
            hashes[e.bias] = hashlib.sha256(bias).hexdigest()
        planned = headers[e.shard].tensors[e.name]
        check = check_equivalence(
            load_tensor(content, dtype=e.dtype, shape=e.shape),
            load_tensor(content, dtype=planned.dtype, shape=planned.shape),
            bias=load_bias(bias, dtype=e.dtype),
            device=torch_device,
        )
        if check.failure:
            raise CheckFailedError(
                f"{e.name} is not the same map as a linear layer: {check.failure}",
                hint="nothing has been saved",
            )
        checks.append(check)
    return tuple(checks), hashes


def _prove(plan: ConversionPlan, staging: Staging, hashes: Mapping[str, str]) -> None:
    from conv2linear.proof import prove_reshaped

    for file in plan.reshaped:
        prove_reshaped(
            staging.folder / file.name,
            plan.checkpoint.headers[file.name],
            embeddings=tuple(e for e in plan.embeddings if e.shard == file.name),
            sha256=hashes,
        )


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
