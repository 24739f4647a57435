"""`convert` for an adapter: plan, check, write, read back, record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from conv2linear.checkpoint.adapter.adapter import ADAPTER_MODEL_TYPE, ADAPTER_WEIGHTS_NAME
from conv2linear.checkpoint.adapter.base import find_base
from conv2linear.checkpoint.adapter.peft_adapter import Adapter, read_adapter
from conv2linear.checkpoint.header import LENGTH_BYTES, Header, read_header
from conv2linear.checkpoint.header_edit import shape_text
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.errors import CheckFailedError, Conv2LinearError
from conv2linear.files.hash import hash_file, update_hash
from conv2linear.operations.adapter.proof import compare_maps, read_layer, refuse_not_finite
from conv2linear.operations.conversion import Conversion
from conv2linear.output.preflight import refuse_impossible
from conv2linear.output.readback import check_with_library, hash_in_file
from conv2linear.output.record import record_check
from conv2linear.output.replacement import NewOutput
from conv2linear.output.staging import Staging
from conv2linear.output.target import WriteOptions
from conv2linear.output.write import prepare_staging, write_contents_beside, write_texts
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.plan.adapter import AdapterPlan, plan_adapter
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.record.consistency import complete_listing
from conv2linear.record.converted import read_text_if_it_is
from conv2linear.record.manifest import (
    MANIFEST_NAME,
    EditRecord,
    FileRecord,
    Manifest,
    ShardRecord,
    TensorRecord,
    dump_manifest,
)
from conv2linear.sources.base import Repository
from conv2linear.version import __version__

_HASHED_BYTES = 32 << 20  # what lies beside an adapter may be the state of its training


@dataclass(frozen=True)
class AdapterConversion(Conversion):
    """A finished conversion of an adapter of PEFT.

    `base` is the checkpoint that the adapter still names as its own, None where it names none.
    `checks` has one entry for each weight of a layer, as `manifest.check` names them. Without
    `is_changed` the adapter fits both layouts as it is.
    """

    derived: ClassVar[tuple[str, ...]] = ("is_changed",)

    base: str | None

    @property
    def is_changed(self) -> bool:
        """Whether the adapter had anything to do with the patch embedding."""
        return bool(self.manifest.shards or self.manifest.edits)


def plan_adapter_conversion(repository: Repository, *, changed_only: bool = False) -> AdapterPlan:
    """Open an adapter and decide what converting it would do; nothing is written.

    Raises what `plan_adapter` and `read_adapter` raise.
    """
    if changed_only:
        raise Conv2LinearError(
            f"{repository.label} is an adapter, which is always written whole",
            hint="leave out --changed-only",
        )
    adapter = read_adapter(repository)
    return plan_adapter(
        adapter,
        Layout.LINEAR,
        base=find_base(adapter.config),
        old_record=read_text_if_it_is(repository, MANIFEST_NAME),
    )


def refuse_adapter_output(plan: AdapterPlan, out: Path, writing: WriteOptions) -> None:
    """Raise `OutputError` where a planned adapter could not be written to `out`."""
    refuse_impossible(plan.written, out, writing, new=new_output(plan.written))


def convert_adapter(
    plan: AdapterPlan, out: Path, writing: WriteOptions, *, device: str, told: RecordedProgress
) -> AdapterConversion:
    """Do what is planned; `out` appears complete, after everything has been checked, or not at all.

    Raises `CheckFailedError` where a linear layer is not the same map, and what `convert` raises.
    """
    adapter = plan.adapter
    with Staging(out, writing, new=new_output(plan.written)) as staging:
        prepare_staging(plan.written, staging)
        checks = write_contents_beside(
            lambda: _check(plan, device=device, progress=told),
            plan.written,
            plan.adapter.repository,
            staging=staging,
            progress=told,
        )
        write_texts(plan.written, plan.texts, staging=staging)
        told.step("read back")
        read_back_adapter(adapter, plan.header, staging.folder)
        manifest = _build_record(plan, checks, staging.folder)
        staging.write_text(MANIFEST_NAME, dump_manifest(manifest))
        told.step("publish")
        for warning in staging.publish():
            told.warn(warning)
    return AdapterConversion(
        source=adapter.repository.label,
        out=out,
        checks=tuple(checks.values()),
        manifest=manifest,
        shard_count=1,
        omitted=tuple(file.name for file in plan.with_action(Action.OMIT)),
        compatibility=(),
        warnings=told.warnings,
        base=adapter.config.base,
    )


def new_output(written: tuple[PlannedFile, ...]) -> NewOutput:
    """Say which folder an adapter may replace: another adapter."""
    return NewOutput(
        names=frozenset({MANIFEST_NAME, *(file.name for file in written)}),
        model_type=ADAPTER_MODEL_TYPE,
    )


def read_back_adapter(adapter: Adapter, header: Header | None, folder: Path) -> None:
    """Check the written weights: the planned header, and behind it the bytes of the source.

    Raises `CheckFailedError`.
    """
    if header is None:
        return
    path = folder / ADAPTER_WEIGHTS_NAME
    if read_header(path).text != header.text:
        raise CheckFailedError(f"{path.name}: the header is not the one that was planned")
    info = adapter.repository.files[ADAPTER_WEIGHTS_NAME]
    if (source := info.sha256) is None and info.path is not None:
        source = hash_file(info.path)
    if source is not None and source != _hash_under(adapter.header, path, header):
        raise CheckFailedError(f"{path.name}: the tensors' bytes have changed")


def _check(plan: AdapterPlan, *, device: str, progress: Progress) -> dict[str, Equivalence]:
    """Check each layer as the new header will show it; only their bytes are read."""
    adapter, header = plan.adapter, plan.header
    if header is None:
        return {}
    checks = compare_maps(
        adapter,
        linear={t.name: header.tensors[t.name_in(Layout.LINEAR)] for t in adapter.tensors},
        originals={t.name: read_layer(adapter, t, t.geometry) for t in adapter.tensors if t.is_map},
        device=device,
        progress=progress,
    )
    for name, outcome in checks.items():
        if outcome.failure:
            raise CheckFailedError(
                f"{name} is not the same map as a linear layer: {outcome.failure}",
                hint="nothing has been saved",
            )
    refuse_not_finite(adapter)
    return checks


def _build_record(plan: AdapterPlan, checks: dict[str, Equivalence], folder: Path) -> Manifest:
    adapter, header = plan.adapter, plan.header
    tensors = tuple(
        TensorRecord(
            name=tensor.name_in(Layout.LINEAR),
            shard=ADAPTER_WEIGHTS_NAME,
            dtype=tensor.info.dtype,
            shape_before=tensor.info.shape,
            shape_after=tensor.shape_in(Layout.LINEAR),
            shape_text=shape_text(adapter.header.text, tensor.name),
            sha256=hashlib.sha256(adapter.read_tensor(tensor.name)).hexdigest(),
        )
        for tensor in adapter.tensors
    )
    if header is not None:
        _check_with_library(folder / ADAPTER_WEIGHTS_NAME, header, tensors)
    names = {tensor.name: tensor.name_in(Layout.LINEAR) for tensor in adapter.tensors}
    manifest = Manifest(
        tool=__version__,
        source=adapter.repository.origin,
        model_type=ADAPTER_MODEL_TYPE,
        tensors=tensors,
        shards=_shard_records(adapter.header, header),
        files=tuple(_file_record(file, folder) for file in plan.written),
        absent=(),
        edits=tuple(
            EditRecord(file.name, file.original)
            for file in plan.planned
            if file.action is Action.EDIT or file.name == MANIFEST_NAME
        ),
        check=tuple(record_check(names[name], outcome) for name, outcome in checks.items()),
        partial=False,
    )
    return complete_listing(manifest)


def _shard_records(before: Header, after: Header | None) -> tuple[ShardRecord, ...]:
    if after is None:
        return ()
    return (ShardRecord(ADAPTER_WEIGHTS_NAME, before.sha256, after.sha256, before.text),)


def _file_record(file: PlannedFile, folder: Path) -> FileRecord:
    path = folder / file.name
    is_small = file.output_bytes <= _HASHED_BYTES or file.name == ADAPTER_WEIGHTS_NAME
    return FileRecord(
        file.name, path.stat().st_size, hash_file(path) if is_small else file.info.sha256
    )


def _check_with_library(path: Path, header: Header, tensors: tuple[TensorRecord, ...]) -> None:
    check_with_library(path, header)
    found = hash_in_file(path, header, [each.name for each in tensors])
    for each in tensors:
        if header.tensors[each.name].shape != each.shape_after:
            raise CheckFailedError(f"{path.name}: {each.name} has not the planned shape")
        if found[each.name] != each.sha256:
            raise CheckFailedError(f"{path.name}: the bytes of {each.name} have changed")


def _hash_under(header: Header, path: Path, found: Header) -> str:
    """Return the SHA-256 that a file has with another header in front of its tensors."""
    digest = hashlib.sha256(len(header.raw).to_bytes(LENGTH_BYTES, "little") + header.raw)
    update_hash(digest, path, start=found.data_start)
    return digest.hexdigest()
