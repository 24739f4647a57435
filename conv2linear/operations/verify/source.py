"""Compare a linear checkpoint with the source that it was made from, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.json_text import find
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.needs import need_linear, need_source
from conv2linear.operations.verify.source_bytes import compare_file, compare_shard, run_comparisons
from conv2linear.operations.verify.subject import Options, Subject
from conv2linear.plan.actions import Action
from conv2linear.plan.convert import ConversionOptions, ConversionPlan, build_plan
from conv2linear.plan.edits import find_config_difference, repeat_model_card
from conv2linear.record.git_attributes import GIT_ATTRIBUTES
from conv2linear.record.manifest import MANIFEST_NAME, Manifest
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.sources.base import read_optional_text
from conv2linear.text import plural
from conv2linear.version import __version__

_METADATA = "__metadata__"  # what a header says beside the tensors


def check_source(subject: Subject) -> str:
    """Check that a checkpoint is what converting its source gives, and say what was compared.

    Every tensor has the same bytes and, but for the patch embeddings, the same shape; every other
    file is the same, but for the edits. The check ends at the first difference.
    """
    source, checkpoint = need_source(subject), need_linear(subject)
    options = ConversionOptions(
        allow_unsafe_quantization=True,
        changed_only=subject.is_overlay,
        model_card=False,
        loaders=subject.made_for,
    )
    plan = build_plan(source, options)
    found, original = checkpoint.config.text, source.config.text
    if difference := find_config_difference(
        original, subject.manifest, found=found, headers=source.headers
    ):
        raise CheckFailedError(f"{CONFIG_NAME}: {difference} is not what the source gives")
    _check_tensors(checkpoint, source, plan)
    notes = _check_headers(subject.manifest, checkpoint, source=source, plan=plan)
    is_edited = _is_card_edited(subject.manifest)
    left_out = _check_left_out(subject.manifest, source)
    exempt = left_out | ({MODEL_CARD_NAME} if is_edited else set())
    files = _other_files(checkpoint, plan, exempt=exempt)
    if is_edited:
        notes += _check_model_card(subject, source)
    _compare_bytes(subject.options, checkpoint, source, files)
    tensors = sum(len(header.tensors) for header in checkpoint.headers.values())
    compared = (
        f"{plural(tensors, 'tensor')} in {plural(len(checkpoint.headers), 'shard')} and "
        f"{plural(len(files), 'other file')}: every byte is the source's"
    )
    return "; ".join([compared, *notes])


def _check_headers(
    manifest: Manifest | None, checkpoint: Checkpoint, *, source: Checkpoint, plan: ConversionPlan
) -> list[str]:
    """Check what headers say beside the tensors; return what differs from the source, and may.

    A conversion by this tool leaves all of a header but for shapes. Another tool may have written
    the shards anew, and another version the shapes otherwise: the record has that header's hash.
    """
    reshaped = {file.name: file.header for file in plan.reshaped if file.header}
    expected = {**source.headers, **reshaped}
    other = [name for name, h in sorted(checkpoint.headers.items()) if h.raw != expected[name].raw]
    changed = [n for n in other if _metadata(checkpoint.headers[n]) != _metadata(expected[n])]
    if manifest is not None:
        if changed:
            raise CheckFailedError(f"{changed[0]}: its {_METADATA} is not the source's")
        for name in other:
            if name not in reshaped or manifest.tool == __version__:
                raise CheckFailedError(f"{name}: its header is not what the source gives")
    notes = [f"{plural(len(other), 'header')} written differently"] if other else []
    return notes + ([f"{len(changed)} with other {_METADATA}"] if changed else [])


def _metadata(header: Header) -> Any:
    member = find(header.text, _METADATA)
    return None if member is None else json.loads(header.text[member.start : member.end])


def _is_card_edited(manifest: Manifest | None) -> bool:
    """Tell whether README.md may differ from the source's: without a record nobody knows."""
    return manifest is None or MODEL_CARD_NAME in {edit.name for edit in manifest.edits}


def _check_tensors(checkpoint: Checkpoint, source: Checkpoint, plan: ConversionPlan) -> None:
    """Check names, shards, dtypes and shapes; offsets may differ."""
    reshaped = {file.name: file.header for file in plan.reshaped if file.header}
    expected_shards = set(reshaped if plan.partial else source.headers)
    if set(checkpoint.headers) != expected_shards:
        shard = min(set(checkpoint.headers) ^ expected_shards)
        raise CheckFailedError(f"shard {shard} is in only one of checkpoint and source")
    for shard, header in checkpoint.headers.items():
        expected = reshaped.get(shard, source.headers[shard])
        if header.tensors.keys() != expected.tensors.keys():
            name = min(header.tensors.keys() ^ expected.tensors.keys())
            raise CheckFailedError(f"{shard}: tensor {name!r} is in only one of the two")
        for name, info in header.tensors.items():
            other = expected.tensors[name]
            if (info.dtype, info.shape) != (other.dtype, other.shape):
                raise CheckFailedError(
                    f"{shard}: tensor {name!r} is {info.dtype} {list(info.shape)}, "
                    f"expected {other.dtype} {list(other.shape)}"
                )


def _other_files(checkpoint: Checkpoint, plan: ConversionPlan, *, exempt: set[str]) -> list[str]:
    """Return the files that pass through; the list of files must be the planned one."""
    planned = {file.name for file in plan.written} - exempt
    found = set(checkpoint.files) - {MANIFEST_NAME} - exempt
    difference = (planned ^ found) - {GIT_ATTRIBUTES}
    if difference:
        name = min(difference)
        where = "the source does not have it" if name in found else "the source has it"
        raise CheckFailedError(f"{name}: {where}")
    passed = {file.name for file in plan.with_action(Action.COPY)} & found
    return sorted(passed - set(checkpoint.headers) - {GIT_ATTRIBUTES})


def _check_left_out(manifest: Manifest | None, source: Checkpoint) -> set[str]:
    """Check what the record kept of files that were left out; return their names."""
    records = manifest.left_out if manifest else ()
    for record in records:
        if _read_whole(source, record.name) != record.content:
            raise CheckFailedError(f"{record.name}: the record did not keep that of the source")
    return {record.name for record in records}


def _check_model_card(subject: Subject, source: Checkpoint) -> list[str]:
    """Check a README.md that may be edited; return what is not compared, and why."""
    if subject.manifest is None:
        unknown = f"{MODEL_CARD_NAME} is not compared, as no record says how it was edited"
        one, two = (_read_whole(each, MODEL_CARD_NAME) for each in (source, subject))
        return [] if one == two else [unknown]
    original = read_optional_text(source.repository, MODEL_CARD_NAME)
    found = read_optional_text(subject.repository, MODEL_CARD_NAME)
    expected = repeat_model_card(original, subject.manifest)
    if expected is None:
        return [f"{MODEL_CARD_NAME} is not compared: conv2linear {subject.manifest.tool} edited it"]
    if found != expected:
        raise CheckFailedError(f"{MODEL_CARD_NAME} is not what the source gives")
    return []


def _read_whole(opened: Checkpoint | Subject, name: str) -> bytes | None:
    """Read a small file, whatever is in it; None where there is none."""
    repository = opened.repository
    info = repository.files.get(name)
    return repository.read(name, 0, info.size_bytes) if info else None


def _compare_bytes(
    options: Options, checkpoint: Checkpoint, source: Checkpoint, files: Sequence[str]
) -> None:
    """Compare all tensors, and these other files, byte for byte."""
    comparisons = [
        *chain.from_iterable(
            compare_shard(checkpoint, source, name) for name in sorted(checkpoint.headers)
        ),
        *chain.from_iterable(
            compare_file(checkpoint.repository, source.repository, name) for name in files
        ),
    ]
    run_comparisons(options, comparisons)
