"""`convert`: open, plan, check, write, prove, record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conv2linear.checkpoint.checkpoint import open_checkpoint
from conv2linear.errors import CheckFailedError
from conv2linear.output.record import _record
from conv2linear.output.staging import Staging
from conv2linear.output.target import check_output, local_path, parse_out
from conv2linear.output.write import prepare_writing, write_files
from conv2linear.parallel import resolve_workers
from conv2linear.paths import StrPath
from conv2linear.plan.convert import ConversionPlan, build_plan
from conv2linear.progress import NoProgress, Progress
from conv2linear.record.manifest import MANIFEST_NAME, Manifest, dump_manifest

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence


@dataclass(frozen=True)
class Conversion:
    """A finished conversion; `checks` has one entry for each patch embedding, in their order."""

    out: Path
    plan: ConversionPlan
    checks: tuple[Equivalence, ...]
    manifest: Manifest


def plan_conversion(
    source: StrPath,
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
    out, progress = parse_out(out), progress or NoProgress()
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
                workers=resolve_workers(workers),
                progress=progress,
            )
            progress.step("prove")
            _read_back(plan, staging, hashes)
        except CheckFailedError:
            staging.discard()
            raise
        staging.write_text(MANIFEST_NAME, dump_manifest(manifest))
        staging.publish(replace=force)
    return Conversion(out, plan, checks, manifest)


def _check(plan: ConversionPlan, device: str) -> tuple[tuple[Equivalence, ...], dict[str, str]]:
    """Run the equivalence check on each patch embedding, as the new header will show it.

    Only the bytes of the patch embeddings are read. Returns the outcomes, and the SHA-256 of each
    tensor by name. Raises `CheckFailedError` at the first that is not the same map.
    """
    from conv2linear.equivalence.check import check_equivalence
    from conv2linear.equivalence.device import resolve_device
    from conv2linear.equivalence.layers import load_bias, load_tensor

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


def _read_back(plan: ConversionPlan, staging: Staging, hashes: Mapping[str, str]) -> None:
    from conv2linear.output.readback import read_back_shard

    for file in plan.reshaped:
        read_back_shard(
            staging.folder / file.name,
            plan.checkpoint.headers[file.name],
            embeddings=tuple(e for e in plan.embeddings if e.shard == file.name),
            sha256=hashes,
        )
