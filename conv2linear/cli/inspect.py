"""`conv2linear inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conv2linear.cli.adapter import inspection_rows
from conv2linear.cli.format import format_bytes
from conv2linear.cli.options import Debug, Json, Quiet, Revision, Source, Subfolder
from conv2linear.cli.output import Output, key_value_table
from conv2linear.text import plural

if TYPE_CHECKING:
    from conv2linear.checkpoint.quantization.skip_list_audit import SkipListAudit
    from conv2linear.operations.inspection import Cost, Inspection

EXAMPLES = """
conv2linear inspect zai-org/GLM-4.5V
conv2linear inspect ./GLM-4.1V-9B --json
"""


def inspect_command(
    source: Source,
    revision: Revision = None,
    subfolder: Subfolder = "",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a checkpoint is and what converting it would take; only headers are read."""
    output = Output("inspect", json=json, quiet=quiet, debug=debug)
    with output.running() as progress:
        from conv2linear.operations.inspect import inspect_checkpoint  # not for --help

        inspection = inspect_checkpoint(
            source, revision=revision, subfolder=subfolder, progress=progress
        )
    output.result(inspection.to_dict(), key_value_table(*_rows(inspection)))


def _rows(inspection: Inspection) -> list[tuple[str, str]]:
    from conv2linear.operations.adapter.inspect import AdapterInspection  # not for --help

    if isinstance(inspection, AdapterInspection):
        return inspection_rows(inspection)
    origin = inspection.origin
    rows = [
        ("source", inspection.source + (f" at commit {origin.commit_sha}" if origin else "")),
        ("model type", inspection.model_type),
        ("layout", str(inspection.layout)),
    ]
    rows += [
        (
            "patch embedding",
            f"{e.name}  {e.dtype} {list(e.shape)}, linear {list(e.linear_shape)}, in {e.shard}",
        )
        for e in inspection.embeddings
    ]
    rows += [
        ("quantization", inspection.quantization or "none"),
        *([("skip list", _describe(inspection.skip_list))] if inspection.skip_list else []),
        (
            "size",
            f"{inspection.shard_count} shards, {inspection.file_count} files, "
            f"{format_bytes(inspection.total_bytes)}",
        ),
    ]
    if inspection.full and inspection.changed_only:
        rows.append(("convert", _format_cost(inspection.full)))
        rows.append(("  --changed-only", _format_cost(inspection.changed_only)))
    else:
        rows.append(("convert", f"not possible: {inspection.refusal_reason}"))
    return rows + _loading_rows(inspection)


def _loading_rows(inspection: Inspection) -> list[tuple[str, str]]:
    """Say where the checkpoint loads, and where the result of a conversion would."""
    from conv2linear.checkpoint.compatibility import describe  # not for --help

    rows = list(describe(inspection.compatibility))
    converted = describe(inspection.converted or ())
    return rows + [("once converted", f"{label} {text}") for label, text in converted]


def _describe(audit: SkipListAudit) -> str:
    if audit.unknown_reason:
        return f"not known: {audit.unknown_reason}"
    if audit.problem:
        return f"wrong, does not load rightly in transformers: {audit.problem}"
    return f"agrees with how {plural(audit.layer_count, 'layer')} are stored"


def _format_cost(cost: Cost) -> str:
    return f"downloads {format_bytes(cost.download_bytes)}, writes {format_bytes(cost.write_bytes)}"
