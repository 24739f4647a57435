"""Decide what restoring an adapter by its record does to each file."""

from __future__ import annotations

from collections.abc import Mapping

from conv2linear.checkpoint.adapter.adapter import ADAPTER_WEIGHTS_NAME
from conv2linear.checkpoint.adapter.peft_adapter import Adapter
from conv2linear.checkpoint.header import Header, parse_header
from conv2linear.errors import BadHeaderError, CheckFailedError
from conv2linear.plan.actions import Action, PlannedFile, plan_omitted
from conv2linear.plan.adapter import AdapterPlan
from conv2linear.plan.restore import original_texts
from conv2linear.record.comparison import changed
from conv2linear.record.manifest import Manifest


def plan_adapter_restoration(
    adapter: Adapter, manifest: Manifest, *, git_attributes: str | None
) -> AdapterPlan:
    """Decide the action for each file of an adapter, so that exactly what is on record is undone.

    `git_attributes` is the original text of a `.gitattributes` that was extended, None where it was
    not. Raises `CheckFailedError` where the header is not the one on record, or the record does
    not have the original one.
    """
    header = _original_header(adapter, manifest)
    texts = original_texts(manifest, git_attributes)
    kept = {record.name for record in manifest.files} - {edit.name for edit in manifest.edits}
    planned = tuple(
        _plan_file(file, adapter, header, texts, is_kept=file.name in kept)
        for file in (
            PlannedFile(info, Action.COPY, info.size_bytes)
            for info in adapter.repository.files.values()
        )
    )
    return AdapterPlan(
        adapter=adapter,
        planned=(*planned, *plan_omitted(adapter.repository.omitted)),
        header=header,
        texts=texts,
        warnings=(),
    )


def _plan_file(
    file: PlannedFile,
    adapter: Adapter,
    header: Header | None,
    texts: Mapping[str, str],
    *,
    is_kept: bool,
) -> PlannedFile:
    if (text := texts.get(file.name)) is not None:
        return PlannedFile(file.info, Action.EDIT, len(text.encode()))
    if not is_kept:
        return PlannedFile(file.info, Action.OMIT, 0)
    if file.name == ADAPTER_WEIGHTS_NAME and header is not None:
        size = file.output_bytes + header.data_start - adapter.header.data_start
        return PlannedFile(file.info, Action.RESHAPE, size, header=header)
    return file


def _original_header(adapter: Adapter, manifest: Manifest) -> Header | None:
    record = next((each for each in manifest.shards if each.name == ADAPTER_WEIGHTS_NAME), None)
    if record is None:
        return None
    found = adapter.header
    if {tensor.name for tensor in adapter.tensors} != {tensor.name for tensor in manifest.tensors}:
        raise changed("the tensors of the patch embedding are not those on record")
    if found.sha256 != record.header_sha256_after:
        raise changed(f"the header of {record.name} is not the one on record")
    data_bytes = max((info.data_offsets[1] for info in found.tensors.values()), default=0)
    raw = (record.header_before or "").encode()
    try:
        header = parse_header(raw, file_bytes=8 + len(raw) + data_bytes, label="recorded header")
    except BadHeaderError as error:
        raise changed(f"the header on record is not valid: {error}") from None
    places = [
        {info.data_offsets: info.dtype for info in h.tensors.values()} for h in (header, found)
    ]
    if header.sha256 != record.header_sha256_before or places[0] != places[1]:
        raise CheckFailedError(
            f"{record.name}: the header that the record leads to is not the original one",
            hint="adapter or record were changed afterwards: `conv2linear verify` says which",
        )
    return header
