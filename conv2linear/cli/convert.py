"""`conv2linear convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conv2linear.cli.adapter import conversion_rows
from conv2linear.cli.format import format_bytes, format_command
from conv2linear.cli.help import CHECK, OUTPUT
from conv2linear.cli.options import (
    Debug,
    Device,
    DryRun,
    Force,
    Hardlink,
    Json,
    Quiet,
    Revision,
    Source,
    Subfolder,
    Workers,
    complete_loaders,
)
from conv2linear.cli.output import Output, key_value_table

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence
    from conv2linear.operations.adapter.convert import AdapterConversion
    from conv2linear.operations.conversion import Conversion
    from conv2linear.plan.adapter import AdapterPlan
    from conv2linear.plan.convert import ConversionPlan
    from conv2linear.record.manifest import Manifest

EXAMPLES = """
conv2linear convert zai-org/GLM-4.5V ./out --dry-run
conv2linear convert zai-org/GLM-4.5V ./out --changed-only
conv2linear convert ./GLM-4.1V-9B ./out --hardlink
"""

_RERUN = (
    "files that are whole by now, and what is downloaded of others, are used again; "
    "the check is made again"
)


def convert_command(
    source: Source,
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="The folder to make; it appears once it is whole.")
    ],
    revision: Revision = None,
    subfolder: Subfolder = "",
    device: Device = "auto",
    hardlink: Hardlink = False,
    changed_only: Annotated[
        bool,
        typer.Option(
            "--changed-only",
            help="Write only the files that change: an overlay of the source.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    model_card: Annotated[
        bool,
        typer.Option(
            "--model-card/--no-model-card",
            help="Add a section to README.md, the model card.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
    loaders: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="LOADERS",
            help="What the result must load in, with commas between.",
            rich_help_panel=OUTPUT,
            autocompletion=complete_loaders,
        ),
    ] = "transformers,vllm,sglang",
    force: Force = False,
    dry_run: DryRun = False,
    workers: Workers = None,
    allow_unsafe_quantization: Annotated[
        bool,
        typer.Option(
            "--allow-unsafe-quantization",
            help="Convert although the quantisation method may break the result.",
            rich_help_panel=CHECK,
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a copy of SOURCE whose patch embedding is linear, once it is proven the same.

    An adapter of PEFT is moved to the linear version of its base.
    """
    output = Output("convert", json=json, quiet=quiet, debug=debug)
    with output.running(rerun=_RERUN) as progress:
        from conv2linear.operations.convert import convert, plan_conversion  # not for --help

        options: dict[str, Any] = {
            "revision": revision,
            "subfolder": subfolder,
            "device": device,
            "hardlink": hardlink,
            "force": force,
            "allow_unsafe_quantization": allow_unsafe_quantization,
            "changed_only": changed_only,
            "model_card": model_card,
            "progress": progress,
            "loaders": loaders,
        }
        if dry_run:
            plan = plan_conversion(source, out=out, **options)
            values, rows = plan.to_dict(), _plan_rows(plan, out)
            next_command = None
        else:
            conversion = convert(
                source,
                out,
                workers=workers,
                **options,
            )
            values, rows = conversion.to_dict(), _rows(conversion)
            next_command = _next_command(conversion)
    output.result(
        {"dry_run": dry_run, **values},
        key_value_table(*rows),
        is_timed=not dry_run,
        next_command=next_command,
    )


def _next_command(conversion: Conversion | AdapterConversion) -> str | None:
    """Return the command that compares every byte with the source."""
    from conv2linear.operations.verify.subject import RECORDED  # not for --help

    source = RECORDED if conversion.manifest.source else Path(conversion.source)
    return format_command("verify", conversion.out, "--source", source)


def _plan_rows(plan: ConversionPlan | AdapterPlan, out: str) -> list[tuple[str, str]]:
    from conv2linear.checkpoint.compatibility import describe  # not for --help
    from conv2linear.plan.actions import Action

    omitted = {file.name for file in plan.with_action(Action.OMIT)}
    rows = [
        (f.action.value, f.name if f.name in omitted else f"{f.name}  {format_bytes(f.size_bytes)}")
        for f in plan.files
    ]
    rows.append(("download", format_bytes(plan.download_bytes)))
    rows.append(("write", f"{format_bytes(plan.write_bytes)} to {out} (nothing written now)"))
    return [*rows, *describe(plan.compatibility)]


def _rows(conversion: Conversion | AdapterConversion) -> list[tuple[str, str]]:
    from conv2linear.checkpoint.compatibility import describe  # not for --help
    from conv2linear.operations.adapter.convert import AdapterConversion

    if isinstance(conversion, AdapterConversion):
        return conversion_rows(conversion)
    manifest = conversion.manifest
    origin = f"@{manifest.source.commit_sha[:12]}" if manifest.source else ""
    rows = [("converted", f"{conversion.source}{origin} to {conversion.out}")]
    reshaped = [t for t in manifest.tensors if t.shape_before != t.shape_after]
    for tensor, check in zip(reshaped, conversion.checks, strict=True):
        shapes = f"{list(tensor.shape_before)} to {list(tensor.shape_after)}"
        rows.append(("weight", f"{tensor.name}  {tensor.dtype} {shapes}"))
        rows += _check_rows(check)
    written_bytes = sum(file.size_bytes for file in manifest.files)
    rows += [
        (
            "files",
            f"{len(manifest.shards)} of {conversion.shard_count} shards reshaped, "
            f"{_unchanged(manifest)}, {format_bytes(written_bytes)}",
        ),
        ("edited", ", ".join(manifest.edited)),
        *([("left out", ", ".join(conversion.omitted))] if conversion.omitted else []),
        *describe(conversion.compatibility),
    ]
    return rows


def _unchanged(manifest: Manifest) -> str:
    if manifest.partial:
        return f"{len(manifest.absent)} unchanged files left with the source"
    changed = {shard.name for shard in manifest.shards} | set(manifest.edited)
    return f"{sum(file.name not in changed for file in manifest.files)} files unchanged"


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
    return rows
