"""The checks of `verify` that look at an adapter of PEFT."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from conv2linear.checkpoint.adapter.adapter import ADAPTER_WEIGHTS_NAME
from conv2linear.checkpoint.adapter.config import ADAPTER_CONFIG_NAME, parse_adapter_config
from conv2linear.checkpoint.adapter.layer import AdapterPart, LayerTensor
from conv2linear.checkpoint.adapter.matching import is_saved, is_targeted, pattern_value
from conv2linear.checkpoint.adapter.peft_adapter import Adapter
from conv2linear.checkpoint.header import TensorInfo
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.equivalence.outcome import Equivalence, Step
from conv2linear.errors import CheckFailedError
from conv2linear.operations.adapter.proof import compare_maps, read_layer, refuse_not_finite
from conv2linear.operations.adapter.subject import (
    AdapterSubject,
    need_adapter,
    need_adapter_source,
    need_linear_adapter,
)
from conv2linear.operations.verify.equivalence import require_step
from conv2linear.operations.verify.needs import SkippedError, need_record
from conv2linear.operations.verify.source_bytes import compare_file, run_comparisons
from conv2linear.operations.verify.subject import Subject
from conv2linear.plan.adapter import move_config
from conv2linear.record.git_attributes import GIT_ATTRIBUTES
from conv2linear.record.manifest import MANIFEST_NAME, TensorRecord
from conv2linear.sources.base import Repository
from conv2linear.text import plural
from conv2linear.version import __version__

_CHUNK_BYTES = 1 << 20
_SPARES = "nothing of the adapter is on the patch embedding: it fits both layouts"


def check_adapter_files(subject: Subject) -> str:
    """Check that config and header are valid and agree with each other."""
    if subject.checkpoint_error is not None:
        raise subject.checkpoint_error
    adapter = need_adapter(subject)
    return (
        f"{adapter.config.peft_type} adapter with "
        f"{plural(len(adapter.header.tensors), 'tensor')}; header and config sound"
    )


def check_adapter_layout(subject: Subject) -> str:
    """Check that what the adapter has of the layer is named and shaped for a linear one."""
    adapter = need_adapter(subject)
    if adapter.layout is None:
        return _SPARES
    if adapter.layout is Layout.CONV3D:
        raise CheckFailedError("the adapter is for a conv3d patch embedding, expected a linear one")
    return ", ".join(f"{t.name} {t.info.dtype} {list(t.info.shape)}" for t in adapter.tensors)


def check_adapter_targets(subject: Subject) -> str:
    """Check that PEFT puts the adapter on the linear layer, and with the rank of its tensors."""
    adapter = need_linear_adapter(subject)
    values, unknown = adapter.config.values, False
    for module in adapter.modules:
        parts = {t.part: t for t in adapter.tensors if t.module == module}
        if AdapterPart.WEIGHT in parts and not is_saved(values, module):
            raise CheckFailedError(f"modules_to_save does not name {module}: PEFT drops its copy")
        if AdapterPart.LORA_A in parts:
            is_found = is_targeted(values, module, is_linear=True)
            if is_found is False:
                raise CheckFailedError(
                    f"target_modules does not match {module}: PEFT drops its LoRA"
                )
            rank = parts[AdapterPart.LORA_A].info.shape[0]
            expected = pattern_value(values, "rank_pattern", module, values.get("r", 8))
            if expected not in (None, rank):
                raise CheckFailedError(f"{module} has rank {rank}, but the config says {expected}")
            unknown = unknown or is_found is None or expected is None
    if unknown:
        raise SkippedError(f"{ADAPTER_CONFIG_NAME} has a pattern that is not tried here")
    return (
        f"{ADAPTER_CONFIG_NAME} places it on {', '.join(adapter.modules)}"
        if adapter.modules
        else _SPARES
    )


def check_recorded_adapter(subject: Subject) -> str:
    """Check bytes, shapes and the header against the record."""
    manifest, adapter = need_record(subject), need_adapter(subject)
    found = {tensor.name: tensor for tensor in adapter.tensors}
    for record in manifest.tensors:
        if record.name not in found:
            raise CheckFailedError(f"{record.name} is on record and missing")
        _check_tensor(record, adapter, found[record.name].info)
    extra = found.keys() - {record.name for record in manifest.tensors}
    if extra:
        raise CheckFailedError(f"{min(extra)} is not in the record")
    for shard in manifest.shards:
        if shard.header_sha256_after != adapter.header.sha256:
            raise CheckFailedError(f"the header of {shard.name} is not the one on record")
    whole = next((f for f in manifest.files if f.name == ADAPTER_WEIGHTS_NAME), None)
    if whole is not None and whole.sha256 not in (None, _hash(subject.repository)):
        raise CheckFailedError(f"{ADAPTER_WEIGHTS_NAME} has not the recorded SHA-256")
    return (
        f"{plural(len(manifest.tensors), 'tensor')} of the layer and all of "
        f"{ADAPTER_WEIGHTS_NAME} have the recorded SHA-256"
    )


def check_recorded_adapter_edits(subject: Subject) -> str:
    """Check that adapter_config.json is what editing the original on record gives."""
    manifest, adapter = need_record(subject), need_adapter(subject)
    edit = next((e for e in manifest.edits if e.name == ADAPTER_CONFIG_NAME), None)
    if edit is None or edit.original is None:
        raise SkippedError("no text was edited")
    if manifest.tool != __version__:
        raise SkippedError(f"only conv2linear {manifest.tool} knows how it edits a config")
    records = {record.name: record for record in manifest.tensors}
    before = replace(
        adapter,
        config=parse_adapter_config(edit.original),
        tensors=tuple(_as_recorded(t, records[t.name]) for t in adapter.tensors),
    )
    if move_config(before, Layout.LINEAR).text != adapter.config.text:
        raise CheckFailedError(
            f"{ADAPTER_CONFIG_NAME} is not what editing the recorded original gives"
        )
    return f"{ADAPTER_CONFIG_NAME} follows from the recorded original"


def compare_adapter(subject: AdapterSubject) -> tuple[Equivalence, ...]:
    """Run the equivalence check on each layer of a linear adapter.

    It is compared with the source's, or with itself where the record shows that its bytes are the
    source's. Raises `DeviceError`.
    """
    adapter = subject.adapter
    if adapter is None or adapter.layout is not Layout.LINEAR:
        return ()
    subject.options.progress.step("check")
    originals = {}
    for tensor in adapter.tensors:
        source = subject.source_tensors.get(tensor.name)
        record = subject.recorded_tensors.get(tensor.name)
        if not tensor.is_map:
            continue
        if source is not None and subject.adapter_source is not None:
            originals[tensor.name] = read_layer(subject.adapter_source, source, source.geometry)
        elif subject.adapter_source is None and record and _has_bytes(adapter, record):
            geometry = _as_recorded(tensor, record).geometry
            originals[tensor.name] = read_layer(adapter, tensor, geometry)
    outcomes = compare_maps(
        adapter,
        linear=adapter.header.tensors,
        originals=originals,
        device=subject.options.device,
        progress=subject.options.progress,
    )
    return tuple(outcomes.values())


def check_adapter_finite(subject: Subject) -> str:
    """Check that every value of the layer's tensors is finite."""
    adapter = need_linear_adapter(subject)
    if not adapter.tensors:
        return _SPARES
    refuse_not_finite(adapter)
    if any(tensor.is_map for tensor in adapter.tensors):
        require_step(subject, Step.FINITE)
    return "every value of the adapter on the patch embedding is finite"


def check_adapter_equal(subject: Subject) -> str:
    """Check that each linear layer gives the columns of its kernel."""
    adapter = need_linear_adapter(subject)
    if not any(tensor.is_map for tensor in adapter.tensors):
        if subject.manifest is None and need_source_or_none(subject) is None:
            raise SkippedError("no source and no record to compare with")
        return _SPARES if not adapter.tensors else "only vectors are on the patch embedding"
    outcomes = require_step(subject, Step.EQUIVALENCE)
    if not all(outcome.basis_patches for outcome in outcomes):
        raise SkippedError("no source and no record to compare with")
    counts = ", ".join(str(outcome.basis_patches) for outcome in outcomes)
    against = "the source's" if need_source_or_none(subject) else "those on record"
    return f"all {counts} one-hot inputs and zero give the kernels' columns, which are {against}"


def check_adapter_numerics(subject: Subject) -> str:
    """Check that each layer stays within its error bound for all sampled inputs."""
    adapter = need_linear_adapter(subject)
    if not any(tensor.is_map for tensor in adapter.tensors):
        raise SkippedError("no layer of the adapter is on the patch embedding")
    return "; ".join(
        f"{o.sampled_patches} inputs in {o.dtype} on {o.environment.device}: largest error "
        f"{o.linear.max_abs:.3g}, {o.linear.max_over_bound:.0%} of its bound"
        for o in require_step(subject, Step.NUMERICS)
        if o.linear
    )


def check_adapter_source(subject: Subject) -> str:
    """Check that each tensor has the source's bytes, under the name and shape of this layout."""
    adapter, source = need_linear_adapter(subject), need_adapter_source(subject)
    moved = {t.name: t for t in source.tensors}
    expected: dict[str, tuple[str, TensorInfo]] = {}
    for name, info in source.header.tensors.items():
        tensor = moved.get(name)
        if tensor is not None:
            shape = tensor.shape_in(Layout.LINEAR)
            expected[tensor.name_in(Layout.LINEAR)] = (name, info._replace(shape=shape))
        else:
            expected[name] = (name, info)
    found = adapter.header.tensors
    for name in sorted(found.keys() ^ expected.keys()):
        where = "the source" if name in found else ADAPTER_WEIGHTS_NAME
        raise CheckFailedError(f"{name} is not in {where}")
    for name, (original, info) in sorted(expected.items()):
        if found[name][:2] != info[:2]:
            raise CheckFailedError(
                f"{name} is {found[name].dtype} {list(found[name].shape)}, expected {info.dtype} "
                f"{list(info.shape)}"
            )
        if adapter.read_tensor(name) != source.read_tensor(original):
            raise CheckFailedError(f"the bytes of {name} are not the source's")
    is_moved = source.layout is not Layout.LINEAR
    config = move_config(source, Layout.LINEAR) if is_moved else source.config
    if config.text != adapter.config.text:
        raise CheckFailedError(f"{ADAPTER_CONFIG_NAME} is not what converting the source's gives")
    others = _compare_other_files(subject, adapter.repository, source.repository)
    return (
        f"{plural(len(found), 'tensor')}, {ADAPTER_CONFIG_NAME} and {plural(others, 'other file')} "
        "are the source's"
    )


def _compare_other_files(subject: Subject, ours: Repository, theirs: Repository) -> int:
    """Check that the files beside weights and config are the source's; return their number."""
    kept = {MANIFEST_NAME, GIT_ATTRIBUTES, ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME}
    found, expected = ours.files.keys() - kept, theirs.files.keys() - kept
    for name in sorted(found ^ expected):
        where = "the source does not have it" if name in found else "the source has it"
        raise CheckFailedError(f"{name}: {where}")
    run_comparisons(
        subject.options, [c for n in sorted(found) for c in compare_file(ours, theirs, n)]
    )
    return len(found)


def need_source_or_none(subject: Subject) -> Adapter | None:
    """Return the source, None where the caller has named none."""
    return subject.adapter_source if isinstance(subject, AdapterSubject) else None


def _as_recorded(tensor: LayerTensor, record: TensorRecord) -> LayerTensor:
    """Return a tensor as it was before the conversion."""
    info = tensor.info._replace(shape=record.shape_before)
    name = tensor.name_in(Layout.CONV3D)
    module = f"{tensor.module.removesuffix('linear_proj')}proj"
    return LayerTensor(name, module, Layout.CONV3D, tensor.part, info)


def _check_tensor(record: TensorRecord, adapter: Adapter, info: TensorInfo) -> None:
    if (info.dtype, info.shape) != (record.dtype, record.shape_after):
        raise CheckFailedError(
            f"{record.name} is {info.dtype} {list(info.shape)}, recorded as {record.dtype} "
            f"{list(record.shape_after)}"
        )
    if not _has_bytes(adapter, record):
        raise CheckFailedError(f"the bytes of {record.name} are not those on record")


def _has_bytes(adapter: Adapter, record: TensorRecord) -> bool:
    return hashlib.sha256(adapter.read_tensor(record.name)).hexdigest() == record.sha256


def _hash(repository: Repository) -> str:
    digest, size = hashlib.sha256(), repository.files[ADAPTER_WEIGHTS_NAME].size_bytes
    for start in range(0, size, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, size - start)
        digest.update(repository.read(ADAPTER_WEIGHTS_NAME, start, length))
    return digest.hexdigest()
