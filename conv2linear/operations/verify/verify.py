"""`verify`: a list of named checks on a linear checkpoint, and exactly what each one proved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from conv2linear.checkpoint.checkpoint import open_checkpoint, read_checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME, enable_fusion, parse_config
from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.checkpoint.quantization import (
    SKIP_LIST_FIELDS,
    UNAFFECTED_METHODS,
    edit_skip_list,
    plan_skip_list,
    read_quantization,
)
from conv2linear.errors import (
    CheckFailedError,
    Conv2LinearError,
)
from conv2linear.files.hash import hash_file
from conv2linear.operations.verify.engine import _engine_check
from conv2linear.operations.verify.equivalence import _check_equivalence
from conv2linear.operations.verify.source import GIT_ATTRIBUTES, compare_with_source
from conv2linear.operations.verify.subject import Outcome, Run, SkippedError, Verification
from conv2linear.parallel import map_parallel, resolve_workers
from conv2linear.progress import NoProgress, Progress
from conv2linear.record.manifest import (
    MANIFEST_NAME,
    EditRecord,
    FileRecord,
    Manifest,
    dump_manifest,
    parse_manifest,
)
from conv2linear.record.model_card import MODEL_CARD_NAME, edit_model_card
from conv2linear.sources.base import FileInfo, read_text
from conv2linear.sources.folder import Folder
from conv2linear.sources.open import open_source
from conv2linear.text import plural
from conv2linear.version import __version__

if TYPE_CHECKING:
    pass

RECORDED = "recorded"  # --source recorded: the repository and commit of the manifest


def verify(
    checkpoint: str | Path,
    *,
    source: str | Path | None = None,
    checksums: bool = False,
    engine: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a linear checkpoint, made by this tool or by another, from every side that is asked.

    Always: headers and index, layout, config, quantisation, the record in `conv2linear.json`, and
    the equivalence check on the written weights. With `source` (a folder, a Hub id, or "recorded"
    for the one in the record) every tensor and file is compared with it. With `checksums` every
    file is hashed, and hashes that the record lacks are filled in once all else has passed.
    `engine` "transformers" loads it for real, in a process of its own.

    Returns the outcome of each check. Raises `SourceNotFoundError` where there is no such
    checkpoint or source, and `DeviceError`.
    """
    run = Run(open_source(checkpoint), resolve_workers(workers), progress or NoProgress())
    run.check("record", _read_record)
    run.check("files", _check_files)
    if source is not None:
        run.source = open_checkpoint(_source_name(source, run.manifest))
    run.check("layout", _check_layout)
    run.check("config", _check_config)
    run.check("quantisation", _check_quantization)
    run.check("recorded tensors", _check_recorded_tensors)
    run.check("recorded files", _check_recorded_files)
    run.check("recorded edits", _check_recorded_edits)
    _check_equivalence(run, device)
    if source is not None:
        run.check("source", _check_source)
    if checksums:
        run.check("checksums", _check_checksums)
    if engine is not None:
        run.check(f"engine {engine}", _engine_check(engine))
    return Verification(
        checkpoint=run.repository.label,
        source=run.source.repository.label if run.source else None,
        checks=tuple(run.checks),
        equivalences=tuple(run.equivalences),
    )


def _source_name(source: str | Path, manifest: Manifest | None) -> str | Path:
    if source != RECORDED:
        return source
    if manifest is None or manifest.source is None:
        raise Conv2LinearError(
            f"{MANIFEST_NAME} records no source on the Hub",
            hint="name the source: --source FOLDER or --source ORG/NAME",
        )
    return f"{manifest.source.repo_id}@{manifest.source.commit_sha}"


def _read_record(run: Run) -> str:
    if MANIFEST_NAME not in run.repository.files:
        raise SkippedError(f"no {MANIFEST_NAME}: made by another tool, or left out")
    manifest = run.manifest = parse_manifest(read_text(run.repository, MANIFEST_NAME))
    origin = manifest.source
    made_from = f"{origin.repo_id} at {origin.commit_sha}" if origin else "a folder"
    overlay = f", an overlay without {len(manifest.absent)} files" if manifest.partial else ""
    return f"written by conv2linear {manifest.tool} from {made_from}{overlay}"


def _check_files(run: Run) -> str:
    overlay = run.manifest is not None and run.manifest.partial
    run.checkpoint = read_checkpoint(run.repository, is_overlay=overlay)
    headers = run.checkpoint.headers
    tensors = sum(len(header.tensors) for header in headers.values())
    if overlay:
        what = "as far as this overlay has them"
    else:
        what = "as the index says" if INDEX_FILE in run.repository.files else "in a single file"
    return (
        f"{plural(len(headers), 'shard')} with {plural(tensors, 'tensor')}, {what}; headers sound"
    )


def _check_layout(run: Run) -> str:
    checkpoint = run.opened
    if checkpoint.layout == Layout.CONV3D:
        raise CheckFailedError("the patch embedding is a conv3d kernel, expected a linear weight")
    shapes = ", ".join(
        f"{e.name} {e.dtype} {list(e.shape)}" + (" with bias" if e.bias else " without bias")
        for e in checkpoint.patch_embeddings
    )
    note = (
        "; the fused layout is for transformers only" if checkpoint.layout == Layout.FUSED else ""
    )
    return f"{shapes}, as {CONFIG_NAME} says{note}"


def _check_config(run: Run) -> str:
    if not run.opened.config.fusion_enabled:
        raise CheckFailedError(
            f"{CONFIG_NAME}: fusion_config.patch_embeddings is not true, so transformers would "
            "expect a conv3d kernel"
        )
    return "fusion_config.patch_embeddings is on"


def _check_quantization(run: Run) -> str:
    quantization = read_quantization(run.opened.config)
    if quantization is None:
        return "not quantised"
    method = quantization.method
    if method in UNAFFECTED_METHODS:
        return f"{method} does not touch the patch embedding"
    if method not in SKIP_LIST_FIELDS:
        raise SkippedError(f"it is not known how {method} chooses layers")
    field_name = ".".join(quantization.skip_list_path or ())
    if not quantization.covers():
        raise CheckFailedError(
            f"{CONFIG_NAME}: {field_name} does not cover the patch embedding: {method} would "
            "quantise it on load"
        )
    refusal_reason = plan_skip_list(quantization).refusal_reason
    return f"{field_name} covers the patch embedding" + (
        f"; beware: {refusal_reason}" if refusal_reason else ""
    )


def _check_recorded_tensors(run: Run) -> str:
    """Check bytes, shapes and headers of the patch embeddings against the record."""
    manifest, checkpoint = run.recorded, run.opened
    shard_of = {n: shard for shard, header in checkpoint.headers.items() for n in header.tensors}
    names = {record.name for record in manifest.tensors}
    for embedding in checkpoint.patch_embeddings:
        if embedding.name not in names:
            raise CheckFailedError(f"{embedding.name} is not in the record")
    for record in manifest.tensors:
        if manifest.partial and record.shard not in checkpoint.headers:
            continue  # the bias may lie in a shard that the overlay does not have
        if shard_of.get(record.name) != record.shard:
            raise CheckFailedError(f"{record.name} is not in {record.shard}")
        info = checkpoint.headers[record.shard].tensors[record.name]
        if (info.dtype, info.shape) != (record.dtype, record.shape_after):
            raise CheckFailedError(
                f"{record.name} is {info.dtype} {list(info.shape)}, recorded as {record.dtype} "
                f"{list(record.shape_after)}"
            )
        content = checkpoint.read_tensor(record.shard, record.name)
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise CheckFailedError(f"the bytes of {record.name} are not those on record")
    for shard in manifest.shards:
        header = checkpoint.headers.get(shard.name)
        if header is None or header.sha256 != shard.header_sha256_after:
            raise CheckFailedError(f"the header of {shard.name} is not the one on record")
    tensors, headers = (
        plural(len(manifest.tensors), "tensor"),
        plural(len(manifest.shards), "header"),
    )
    return f"{tensors} and {headers} have the recorded SHA-256"


def _check_recorded_files(run: Run) -> str:
    found = {n: i.size_bytes for n, i in run.repository.files.items() if n != MANIFEST_NAME}
    recorded = {record.name: record.size_bytes for record in run.recorded.files}
    for name in sorted(found.keys() | recorded.keys()):
        if name not in recorded and name != GIT_ATTRIBUTES:
            raise CheckFailedError(f"{name} is not on record: it was added afterwards")
        if name in recorded and name not in found:
            raise CheckFailedError(f"{name} is on record and missing")
        if name in recorded and found[name] != recorded[name]:
            raise CheckFailedError(
                f"{name} has {found[name]} bytes, recorded were {recorded[name]}"
            )
    return f"{plural(len(recorded), 'file')} with the recorded sizes, and no other"


def _check_recorded_edits(run: Run) -> str:
    """Make each edit again from the recorded original, and compare with what is there."""
    manifest, done = run.recorded, []
    for edit in manifest.edits:
        expected = _edit_again(edit, manifest)
        if expected is None:
            continue
        if edit.name not in run.repository.files:
            raise CheckFailedError(f"{edit.name} is missing")
        if read_text(run.repository, edit.name) != expected:
            raise CheckFailedError(f"{edit.name} is not what editing the recorded original gives")
        done.append(edit.name)
    if not done:
        raise SkippedError("no edit that this version can make again")
    return f"{', '.join(done)} follow from the recorded originals"


def _edit_again(edit: EditRecord, manifest: Manifest) -> str | None:
    """Return the text that an edit gives; None where only the version that made it knows."""
    if edit.name == CONFIG_NAME and edit.original is not None:
        config = enable_fusion(parse_config(edit.original))
        return edit_skip_list(config, plan_skip_list(read_quantization(config))).text
    if edit.name == MODEL_CARD_NAME:
        return _model_card(edit.original, manifest)
    raise CheckFailedError(f"{edit.name} is on record as edited, which conv2linear never does")


def _model_card(original: str | None, manifest: Manifest) -> str | None:
    if manifest.tool != __version__:
        return None
    return edit_model_card(
        original,
        tool=manifest.tool,
        origin=manifest.source,
        tensors=manifest.tensors,
        checks=manifest.check,
    )


def _check_source(run: Run) -> str:
    checkpoint, source = run.opened, run.source
    if checkpoint.layout == Layout.CONV3D or source is None:
        raise SkippedError("the layout is conv3d")
    card = None
    if run.manifest and any(edit.name == MODEL_CARD_NAME for edit in run.manifest.edits):
        has_card = MODEL_CARD_NAME in source.files
        original = read_text(source.repository, MODEL_CARD_NAME) if has_card else None
        card = _model_card(original, run.manifest)
    return compare_with_source(
        checkpoint,
        source,
        partial=run.manifest is not None and run.manifest.partial,
        model_card=card,
        workers=run.workers,
        progress=run.progress,
    )


def _check_checksums(run: Run) -> str:
    """Hash every file against the record, and fill in what the record lacks."""
    manifest = run.recorded
    records = [record for record in manifest.files if record.name in run.repository.files]

    def hash_one(record: FileRecord, on_bytes: Callable[[int], None]) -> str:
        info = run.repository.files[record.name]
        found = _hash(info, on_bytes)
        if record.sha256 not in (None, found):
            raise CheckFailedError(f"{record.name} has SHA-256 {found}, expected {record.sha256}")
        return found

    run.progress.step("checksums", sum(record.size_bytes for record in records))
    found = map_parallel(hash_one, records, workers=run.workers, progress=run.progress)
    hashes = {record.name: value for record, value in zip(records, found, strict=True)}
    unknown = sum(record.sha256 is None for record in records)
    known = f"{plural(len(records) - unknown, 'file')} with the recorded SHA-256"
    if not unknown:
        return known
    if any(check.outcome == Outcome.FAIL for check in run.checks):
        return f"{known}; {unknown} have none on record, which stays so as other checks failed"
    if not isinstance(run.repository, Folder):
        return f"{known}; {unknown} have none on record"
    _fill_in(run.repository.path / MANIFEST_NAME, manifest, hashes)
    return f"{known}; {unknown} had none on record, which is filled in now"


def _hash(info: FileInfo, on_bytes: Callable[[int], None]) -> str:
    if info.path is not None:
        return hash_file(info.path, on_bytes=on_bytes)
    if info.sha256 is None:
        raise SkippedError(f"the Hub has no SHA-256 of {info.name}")
    return info.sha256


def _fill_in(path: Path, manifest: Manifest, hashes: Mapping[str, str]) -> None:
    files = tuple(replace(record, sha256=hashes[record.name]) for record in manifest.files)
    new = path.with_name(f".{path.name}.new")
    new.write_text(dump_manifest(replace(manifest, files=files)), encoding="utf-8")
    new.replace(path)
