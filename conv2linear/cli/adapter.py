"""What `inspect` and `convert` print of an adapter of PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conv2linear.cli.format import format_bytes

if TYPE_CHECKING:
    from conv2linear.operations.adapter.convert import AdapterConversion
    from conv2linear.operations.adapter.inspect import AdapterInspection

_SPARED = "it has nothing of the patch embedding, and fits both layouts"


def inspection_rows(inspection: AdapterInspection) -> list[tuple[str, str]]:
    """Return the rows of what `inspect` found."""
    origin = inspection.origin
    rows = [
        ("source", inspection.source + (f" at commit {origin.commit_sha}" if origin else "")),
        ("adapter", f"{inspection.peft_type}, {inspection.tensor_count} tensors"),
        ("base", inspection.base or "not named"),
        ("layout", str(inspection.layout or f"any: {_SPARED}")),
    ]
    rows += [
        ("tensor", f"{t.name}  {t.dtype} {list(t.shape)}, linear {list(t.linear_shape)}")
        for t in inspection.tensors
    ]
    rows.append(("size", f"{inspection.file_count} files, {format_bytes(inspection.total_bytes)}"))
    if inspection.full is None:
        rows.append(("convert", f"not possible: {inspection.refusal_reason}"))
    else:
        change = "" if inspection.is_change_needed else ", without a change"
        rows.append(("convert", f"writes {format_bytes(inspection.full.write_bytes)}{change}"))
    return rows


def conversion_rows(conversion: AdapterConversion) -> list[tuple[str, str]]:
    """Return the rows of what `convert` did."""
    manifest = conversion.manifest
    origin = f"@{manifest.source.commit_sha[:12]}" if manifest.source else ""
    done = "converted" if conversion.is_changed else "copied"
    rows = [(done, f"adapter {conversion.source}{origin} to {conversion.out}")]
    if not manifest.tensors:
        rows.append(("adapter", _SPARED))
    checks = {check.tensor: check for check in manifest.check}
    for tensor in manifest.tensors:
        shapes = f"{list(tensor.shape_before)} to {list(tensor.shape_after)}"
        rows.append(("tensor", f"{tensor.name}  {tensor.dtype} {shapes}"))
        if check := checks.get(tensor.name):
            error = f"{check.linear_max_error_over_bound:.0%} of its bound"
            proof = f"equal on all {check.basis_patches} one-hot inputs and at zero"
            rows.append(("proof", f"{proof}; largest error on sampled ones {error}"))
    size = format_bytes(sum(file.size_bytes for file in manifest.files))
    rows.append(("files", f"{len(manifest.files)}, {size}"))
    if manifest.edits:
        rows.append(("edited", ", ".join(edit.name for edit in manifest.edits)))
    if conversion.omitted:
        rows.append(("left out", ", ".join(conversion.omitted)))
    if manifest.tensors:
        base = f"the linear version of {conversion.base}" if conversion.base else "the linear base"
        rows.append(
            (
                "loads on",
                f"{base}, with PEFT: PeftModel.from_pretrained(base, {str(conversion.out)!r})",
            )
        )
    return rows
