"""Decide what moving an adapter to the other layout of its base does to each file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from conv2linear.checkpoint.adapter.adapter import ADAPTER_WEIGHTS_NAME, PICKLED_WEIGHTS_NAME
from conv2linear.checkpoint.adapter.config import ADAPTER_CONFIG_NAME, AdapterConfig
from conv2linear.checkpoint.adapter.layer import AdapterPart, module_in
from conv2linear.checkpoint.adapter.matching import is_targeted
from conv2linear.checkpoint.adapter.peft_adapter import Adapter
from conv2linear.checkpoint.compatibility import Loading
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.header_edit import grow_header, rename_tensors
from conv2linear.checkpoint.model_types import LINEAR_MODULE, Geometry
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import BadCheckpointError, NothingToConvertError
from conv2linear.plan.actions import Action, FilePlan, PlannedFile, plan_omitted
from conv2linear.plan.adapter_edits import move_adapter_config
from conv2linear.record.manifest import MANIFEST_NAME
from conv2linear.result import Result

_ADAPTED = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_A(?:\.[^.]+)?\.weight")


@dataclass(frozen=True)
class AdapterPlan(FilePlan, Result):
    """All that moving an adapter will do; `texts` are those that the edited files get.

    `header` is the new one of its weights, None where they belong to no patch embedding and stay
    as they are.
    """

    adapter: Adapter = field(repr=False)
    header: Header | None = field(repr=False)
    texts: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...]

    # What a loader makes of an adapter is for PEFT to say, on whichever base it is put.
    compatibility: ClassVar[tuple[Loading, ...]] = ()

    @property
    def is_needed(self) -> bool:
        """Whether anything changes: an adapter that spares the layer fits both layouts as it is."""
        return self.header is not None or bool(self.texts)

    def to_dict(self) -> dict[str, Any]:
        """Return what happens to each file, the bytes that it takes, and the warnings."""
        return {
            "files": [change.to_dict() for change in self.files],
            "download_bytes": self.download_bytes,
            "write_bytes": self.write_bytes,
            "compatibility": [],
            "warnings": list(self.warnings),
        }


def plan_adapter(
    adapter: Adapter,
    to: Layout,
    *,
    base: Geometry | None = None,
    old_record: str | None = None,
) -> AdapterPlan:
    """Decide the action for each file of an adapter that moves to a layout of its base.

    `base` are the sizes of its base's patch embedding, None where they are not known: towards a
    Conv3d they give the kernel's shape. `old_record` is the text of the file in whose place the
    record is written.

    Raises `NothingToConvertError` where it is in that layout already, `BadCheckpointError` where
    it does not fit its base, and `UnsupportedCheckpointError` where PEFT has no such adapter for
    the other layout.
    """
    label = adapter.repository.label
    if adapter.layout is to:
        other = "restore" if to is Layout.LINEAR else "convert"
        raise NothingToConvertError(
            f"{label}: the adapter is for a {to} patch embedding already, nothing to convert",
            hint=f"`conv2linear verify` checks it, `conv2linear {other}` moves it back",
        )
    if any(name.startswith(f"{MANIFEST_NAME}/") for name in adapter.repository.files):
        raise BadCheckpointError(
            f"{label}: {MANIFEST_NAME} is a folder, and the record of the conversion a file",
            hint="give the folder another name",
        )
    if base is not None:
        refuse_other_sizes(adapter, base)
    header = move_header(adapter, to, base=base)
    config = move_config(adapter, to)
    texts = {} if config.text == adapter.config.text else {ADAPTER_CONFIG_NAME: config.text}
    return AdapterPlan(
        adapter=adapter,
        planned=_plan_files(adapter, header, texts, old_record=old_record),
        header=header,
        texts=texts,
        warnings=tuple(_find_warnings(adapter, to)),
    )


def move_config(adapter: Adapter, to: Layout) -> AdapterConfig:
    """Return the config that an adapter has in a layout; see `move_adapter_config`."""
    adapted = sorted(_adapted_modules(adapter.header))
    return move_adapter_config(adapter.config, adapter.tensors, to, adapted=adapted)


def move_header(adapter: Adapter, to: Layout, *, base: Geometry | None = None) -> Header | None:
    """Return the header with the layer's tensors renamed and reshaped, None where it has none.

    Raises `BadCheckpointError` where the kernel's shape is needed and not known.
    """
    if not adapter.tensors:
        return None
    needs_kernel = any(t.is_map and t.part is not AdapterPart.LORA_B for t in adapter.tensors)
    if to is Layout.CONV3D and needs_kernel and base is None:
        raise BadCheckpointError(
            f"{adapter.repository.label}: without a record only the base's config.json says which "
            "kernel the patch embedding has, and there is none to read",
            hint=f"let base_model_name_or_path in {ADAPTER_CONFIG_NAME} name the base",
        )
    kernel = base.kernel_shape[1:] if base else ()
    shapes = {tensor.name: tensor.shape_in(to, kernel) for tensor in adapter.tensors}
    names = {tensor.name: tensor.name_in(to) for tensor in adapter.tensors}
    return rename_tensors(grow_header(adapter.header, shapes), names)


def refuse_other_sizes(adapter: Adapter, base: Geometry) -> None:
    """Raise `BadCheckpointError` where an adapter's tensors do not fit the base's layer."""
    linear = adapter.layout is Layout.LINEAR
    for tensor in adapter.tensors:
        shape = tensor.info.shape
        if tensor.part in (AdapterPart.LORA_A, AdapterPart.WEIGHT, AdapterPart.BASE_WEIGHT):
            found, expected = shape[1:], base.linear_shape[1:] if linear else base.kernel_shape[1:]
        elif tensor.part is AdapterPart.LORA_B:
            found, expected = shape[:1], (base.embed_dim,)
        else:
            continue
        if found != expected:
            raise BadCheckpointError(
                f"{tensor.name} is {list(shape)}, which does not fit the patch embedding "
                f"{list(base.kernel_shape)} of its base {adapter.config.base}",
                hint="was it trained on another checkpoint?",
            )


def _plan_files(
    adapter: Adapter,
    header: Header | None,
    texts: Mapping[str, str],
    *,
    old_record: str | None,
) -> tuple[PlannedFile, ...]:
    def plan_file(file: PlannedFile) -> PlannedFile:
        info, size = file.info, file.info.size_bytes
        if info.name == ADAPTER_WEIGHTS_NAME and header is not None:
            size += header.data_start - adapter.header.data_start
            return PlannedFile(info, Action.RESHAPE, size, header=header)
        if (text := texts.get(info.name)) is not None:
            original = adapter.config.text
            return PlannedFile(info, Action.EDIT, len(text.encode()), original=original)
        if info.name == MANIFEST_NAME:
            return PlannedFile(info, Action.OMIT, 0, original=old_record)
        return file

    files = adapter.repository.files.values()
    planned = [plan_file(PlannedFile(info, Action.COPY, info.size_bytes)) for info in files]
    planned += plan_omitted(adapter.repository.omitted)
    return tuple(sorted(planned, key=lambda file: file.name))


def _adapted_modules(header: Header) -> Iterator[str]:
    for name in header.tensors:
        if match := _ADAPTED.fullmatch(name):
            yield match["module"]


def _find_warnings(adapter: Adapter, to: Layout) -> Iterator[str]:
    files = adapter.repository.files
    if PICKLED_WEIGHTS_NAME in files and adapter.tensors:
        yield (
            f"{PICKLED_WEIGHTS_NAME} is not converted: pickled weights are never opened, and PEFT "
            f"reads {ADAPTER_WEIGHTS_NAME} where both are there"
        )
    others = sorted(name for name in files if name.endswith(f"/{ADAPTER_CONFIG_NAME}"))
    if others:
        yield f"another adapter, {others[0]}, is copied as it is: convert its folder by itself"
    module = module_in(LINEAR_MODULE, to)
    is_linear = to is Layout.LINEAR
    if not adapter.tensors and (
        is_targeted(adapter.config.values, module, is_linear=is_linear) is None
    ):
        yield (
            f"{ADAPTER_CONFIG_NAME}: target_modules or exclude_modules is a pattern that is not "
            f"tried here: if it matches {module}, PEFT adapts that layer too, beginning at zero"
        )
