"""Compare a linear checkpoint with the source that it was made from, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.needs import need_linear, need_source
from conv2linear.operations.verify.source_bytes import compare_file, compare_shard
from conv2linear.operations.verify.subject import Options, Subject
from conv2linear.parallel import map_parallel
from conv2linear.plan.actions import Action
from conv2linear.plan.convert import ConversionOptions, ConversionPlan, build_plan
from conv2linear.plan.edits import convert_config, repeat_model_card
from conv2linear.record.manifest import MANIFEST_NAME
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.sources.base import read_optional_text
from conv2linear.text import plural

GIT_ATTRIBUTES = ".gitattributes"  # a Hub repository gets one of its own


def check_source(subject: Subject) -> str:
    """Check that a checkpoint is what converting its source gives, and say what was compared.

    Every tensor has the same bytes and, but for the patch embeddings, the same shape; every other
    file is the same, but for the edits. The check ends at the first difference.
    """
    source, checkpoint = need_source(subject), need_linear(subject)
    options = ConversionOptions(
        allow_unsafe_quantization=True, changed_only=subject.is_overlay, model_card=False
    )
    plan = build_plan(source, options)
    _check_config(checkpoint.config, convert_config(source.config))
    _check_tensors(checkpoint, source, plan)
    files = _other_files(checkpoint, plan)
    _check_model_card(subject, source)
    _compare_bytes(subject.options, checkpoint, source, files)
    tensors = sum(len(header.tensors) for header in checkpoint.headers.values())
    return (
        f"{plural(tensors, 'tensor')} in {plural(len(checkpoint.headers), 'shard')} and "
        f"{plural(len(files), 'other file')}: every byte is the source's"
    )


def _check_config(found: ModelConfig, expected: ModelConfig) -> None:
    absent = object()  # a member that is null is not the same as none
    for name in sorted(found.values.keys() | expected.values.keys()):
        if found.values.get(name, absent) != expected.values.get(name, absent):
            raise CheckFailedError(f"{CONFIG_NAME}: {name} is not what the source gives")


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


def _other_files(checkpoint: Checkpoint, plan: ConversionPlan) -> list[str]:
    """Return the files that pass through; the list of files must be the planned one."""
    planned = {file.name for file in plan.written} - {MODEL_CARD_NAME}
    found = set(checkpoint.files) - {MANIFEST_NAME, MODEL_CARD_NAME}
    difference = (planned ^ found) - {GIT_ATTRIBUTES}
    if difference:
        name = min(difference)
        where = "the source does not have it" if name in found else "the source has it"
        raise CheckFailedError(f"{name}: {where}")
    passed = {file.name for file in plan.with_action(Action.COPY)} & found
    return sorted(passed - set(checkpoint.headers) - {GIT_ATTRIBUTES})


def _check_model_card(subject: Subject, source: Checkpoint) -> None:
    """Check README.md, if the record names it as edited and this version knows the edit."""
    manifest = subject.manifest
    if manifest is None or MODEL_CARD_NAME not in {edit.name for edit in manifest.edits}:
        return
    original = read_optional_text(source.repository, MODEL_CARD_NAME)
    expected = repeat_model_card(original, manifest)
    if expected is None:
        return
    info = subject.repository.files.get(MODEL_CARD_NAME)
    found = subject.repository.read(MODEL_CARD_NAME, 0, info.size_bytes) if info else b""
    if found != expected.encode():
        raise CheckFailedError(f"{MODEL_CARD_NAME} is not what the source gives")


def _compare_bytes(
    options: Options, checkpoint: Checkpoint, source: Checkpoint, files: Sequence[str]
) -> None:
    """Compare all tensors, and these other files, byte for byte."""
    shards, progress = sorted(checkpoint.headers), options.progress
    total_bytes = sum(checkpoint.files[name].size_bytes for name in [*shards, *files])
    progress.step("compare with the source", total_bytes)
    map_parallel(
        lambda name, on_bytes: compare_shard(checkpoint, source, name, on_bytes=on_bytes),
        shards,
        workers=options.workers,
        progress=progress,
    )
    map_parallel(
        lambda name, on_bytes: compare_file(
            checkpoint.repository, source.repository, name, on_bytes=on_bytes
        ),
        files,
        workers=options.workers,
        progress=progress,
    )
