"""`conv2linear convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from conv2linear.cli.format import format_bytes
from conv2linear.cli.options import (
    Debug,
    Device,
    Force,
    Hardlink,
    Json,
    Quiet,
    Revision,
    Source,
    Workers,
)
from conv2linear.cli.output import Output, as_values, key_value_table

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence
    from conv2linear.operations.convert import Conversion
    from conv2linear.plan.convert import ConversionPlan


def convert_command(
    source: Source,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The folder to make.")],
    revision: Revision = None,
    device: Device = "auto",
    hardlink: Hardlink = False,
    changed_only: Annotated[
        bool,
        typer.Option("--changed-only", help="Write only what changes: an overlay of the source."),
    ] = False,
    model_card: Annotated[
        bool, typer.Option("--model-card/--no-model-card", help="Add a section to README.md.")
    ] = True,
    force: Force = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen to each file, and stop.")
    ] = False,
    workers: Workers = None,
    allow_unsafe_quantization: Annotated[
        bool,
        typer.Option(
            "--allow-unsafe-quantization",
            help="Convert although the quantisation method may break the result.",
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a copy of SOURCE whose patch embedding is linear, once it is proven the same."""
    output = Output(json=json, quiet=quiet, debug=debug)
    with output.running() as progress:
        from conv2linear.operations.convert import convert, plan_conversion  # not for --help

        if dry_run:
            progress.step("open")
            plan = plan_conversion(
                source,
                revision=revision,
                allow_unsafe_quantization=allow_unsafe_quantization,
                changed_only=changed_only,
                model_card=model_card,
            )
        else:
            conversion = convert(
                source,
                out,
                revision=revision,
                device=device,
                hardlink=hardlink,
                force=force,
                workers=workers,
                allow_unsafe_quantization=allow_unsafe_quantization,
                changed_only=changed_only,
                model_card=model_card,
                progress=progress,
            )
    if dry_run:
        output.result("convert", _plan_values(plan), key_value_table(*_plan_rows(plan, out)))
    else:
        output.result("convert", _values(conversion), key_value_table(*_rows(conversion)))


def _plan_values(plan: ConversionPlan) -> dict[str, Any]:
    return {
        "dry_run": True,
        "files": [
            {"name": f.name, "action": f.action, "size_bytes": f.output_bytes} for f in plan.files
        ],
        "download_bytes": plan.download_bytes,
        "write_bytes": plan.output_bytes,
        "warnings": plan.warnings,
    }


def _plan_rows(plan: ConversionPlan, out: str) -> list[tuple[str, str]]:
    rows = [(f.action.value, f"{f.name}  {format_bytes(f.output_bytes)}") for f in plan.files]
    rows.append(("download", format_bytes(plan.download_bytes)))
    rows.append(("write", f"{format_bytes(plan.output_bytes)} to {out} (nothing written now)"))
    return rows


def _values(conversion: Conversion) -> dict[str, Any]:
    return {
        "dry_run": False,
        "out": conversion.out,
        "checks": [as_values(check) for check in conversion.checks],
        "manifest": as_values(conversion.manifest),
        "warnings": conversion.plan.warnings,
    }


def _rows(conversion: Conversion) -> list[tuple[str, str]]:
    plan = conversion.plan
    origin = plan.checkpoint.repository.origin
    source = plan.checkpoint.repository.label + (f"@{origin.commit_sha[:12]}" if origin else "")
    rows = [("converted", f"{source} to {conversion.out}")]
    for embedding, check in zip(plan.embeddings, conversion.checks, strict=True):
        shapes = f"{list(embedding.shape)} to {list(embedding.geometry.linear_shape)}"
        rows.append(("weight", f"{embedding.name}  {embedding.dtype} {shapes}"))
        rows += _check_rows(check)
    from conv2linear.plan.actions import Action

    unchanged = (
        f"{len(plan.with_action(Action.NOT_WRITTEN))} unchanged files left with the source"
        if plan.partial
        else f"{len(plan.with_action(Action.COPY))} files unchanged"
    )
    rows += [
        (
            "files",
            f"{len(plan.reshaped)} of {len(plan.checkpoint.headers)} shards reshaped, "
            f"{unchanged}, {format_bytes(plan.output_bytes)}",
        ),
        ("edited", ", ".join(file.name for file in plan.with_action(Action.EDIT))),
        (
            "loads in",
            "transformers 5.6 or newer as it is; vLLM and SGLang with conv2linear's plugin",
        ),
    ]
    return rows


def _check_rows(check: Equivalence) -> list[tuple[str, str]]:
    rows = [("proof", f"equal on all {check.basis_patches} one-hot patches and at zero")]
    if check.linear:
        rows.append(
            (
                "numerics",
                f"{check.sampled_patches} patches in {check.dtype}: largest error "
                f"{check.linear.max_abs:.3g}, {check.linear.max_over_bound:.0%} of its bound",
            )
        )
    if check.linear_s and check.conv3d_s:
        rows.append(
            (
                "speed",
                f"{check.speed_patches} patches on {check.environment.device} "
                f"({check.environment.device_name}): Conv3d {check.conv3d_s * 1e3:.2f} ms, "
                f"linear {check.linear_s * 1e3:.2f} ms, {check.conv3d_s / check.linear_s:.1f}x",
            )
        )
    return rows
