"""Decide what a conversion does to each file; nothing is read or written here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.compatibility import Loading, assess, read_traits
from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig
from conv2linear.checkpoint.header_edit import reshape_header
from conv2linear.checkpoint.loaders import ALL_LOADERS, ENGINES, Loader
from conv2linear.checkpoint.other_kinds import list_separate_models
from conv2linear.checkpoint.patch_embedding import Layout, PatchEmbedding, shapes_by_shard
from conv2linear.checkpoint.quantization.skip_list_audit import audit_skip_list
from conv2linear.checkpoint.quantization.skip_list_edit import plan_skip_list
from conv2linear.errors import (
    BadCheckpointError,
    NothingToConvertError,
    UnsafeQuantizationError,
)
from conv2linear.plan.actions import Action, FilePlan, PlannedFile, plan_omitted
from conv2linear.plan.attestations import StaleFile, find_stale
from conv2linear.plan.edits import convert_config
from conv2linear.record.manifest import MANIFEST_NAME
from conv2linear.record.model_card import MODEL_CARD_NAME, find_front_matter_problem
from conv2linear.result import Result
from conv2linear.sources.base import FileInfo

_NONE: Mapping[str, bytes | None] = MappingProxyType({})


@dataclass(frozen=True)
class ConversionOptions:
    """What a caller decides about the content of the output.

    `changed_only` leaves out the files that do not change, if there are any, `model_card` adds a
    section to README.md, `allow_unsafe_quantization` converts although the result may not load.
    `loaders` are those that the output is made for.
    """

    changed_only: bool = False
    model_card: bool = True
    allow_unsafe_quantization: bool = False
    loaders: tuple[Loader, ...] = ALL_LOADERS


@dataclass(frozen=True)
class ConversionPlan(FilePlan, Result):
    """All that a conversion will do.

    A `partial` one writes only what it changes; `loaders` are those that it is made for. `texts`
    has the new texts that are known before the check has run: not the model card's, which tells of
    the check. `compatibility` says where the result will load.
    """

    checkpoint: Checkpoint = field(repr=False)
    texts: Mapping[str, str] = field(repr=False)
    partial: bool
    compatibility: tuple[Loading, ...]
    loaders: tuple[Loader, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return each file's action, the bytes to move, where the result loads, and warnings."""
        return {
            "files": [change.to_dict() for change in self.files],
            "download_bytes": self.download_bytes,
            "write_bytes": self.write_bytes,
            "compatibility": [each.to_dict() for each in self.compatibility],
            "loaders": [str(loader) for loader in self.loaders],
            "warnings": list(self.warnings),
        }

    @property
    def embeddings(self) -> tuple[PatchEmbedding, ...]:
        """The patch embeddings that become linear."""
        return self.checkpoint.patch_embeddings


def build_plan(
    checkpoint: Checkpoint,
    options: ConversionOptions,
    *,
    model_card: str | None = None,
    old_record: str | None = None,
    attestations: Mapping[str, bytes | None] = _NONE,
) -> ConversionPlan:
    """Decide the action for each file of a checkpoint.

    `model_card` is the text of its README.md, None where it has none or it is not text, and then
    stays; it counts only where `options` say that the card is edited. `old_record` is the text of
    the file in whose place the record is written, None where it has none or it is not text.
    `attestations` are the contents of the files that say what others hold, None for one that was
    not read.

    Raises `NothingToConvertError` where the layout is not conv3d, and `UnsafeQuantizationError`
    where the quantisation method would, or might, break the result.
    """
    label = checkpoint.repository.label
    if checkpoint.layout is not Layout.CONV3D:
        raise NothingToConvertError(
            f"{label}: the patch embedding is {checkpoint.layout} already, nothing to convert",
            hint="`conv2linear verify` checks such a checkpoint, `conv2linear restore` undoes it",
        )
    if any(name.startswith(f"{MANIFEST_NAME}/") for name in checkpoint.files):
        raise BadCheckpointError(
            f"{label}: {MANIFEST_NAME} is a folder, and the record of the conversion a file",
            hint="give the folder another name",
        )
    refusal_reason = _find_refusal_reason(checkpoint, options.loaders)
    if refusal_reason and not options.allow_unsafe_quantization:
        raise UnsafeQuantizationError(f"{label}: {refusal_reason}", hint=_WAYS_OUT)
    config = convert_config(checkpoint.config, checkpoint.headers, loaders=options.loaders)
    traits = read_traits(
        config, checkpoint.headers, checkpoint.patch_embeddings[0], layout=Layout.LINEAR
    )
    planned = _plan_files(
        checkpoint, options, config=config, model_card=model_card, old_record=old_record
    )
    changed = {file.name for file in planned if file.action in (Action.RESHAPE, Action.EDIT)}
    if config.text == checkpoint.config.text:  # as it is where the result is for the engines alone
        changed.discard(checkpoint.config_name)
    stale = find_stale(attestations, files=checkpoint.files, changed={*changed, MANIFEST_NAME})
    planned = tuple(_leave_out(file, stale, attestations) for file in planned)
    plan = ConversionPlan(
        checkpoint=checkpoint,
        planned=planned,
        texts={checkpoint.config_name: config.text},
        partial=False,
        loaders=options.loaders,
        compatibility=assess(traits),
        warnings=(
            *checkpoint.warnings,
            *(_describe_stale(each, attestations[each.name]) for each in stale.values()),
            *_find_warnings(refusal_reason, model_card if options.model_card else None),
            *(_find_unread_card(checkpoint, model_card) if options.model_card else ()),
            *_find_wrong_skip_list(checkpoint, options.loaders),
            *_find_separate_models(checkpoint),
            *_find_lost_record(checkpoint, old_record),
        ),
    )
    return as_overlay(plan) if options.changed_only else plan


def as_overlay(plan: ConversionPlan) -> ConversionPlan:
    """Plan the same conversion, but write only what it changes."""
    planned = tuple(
        replace(file, action=Action.NOT_WRITTEN) if file.action is Action.COPY else file
        for file in plan.planned
    )
    is_partial = any(file.action is Action.NOT_WRITTEN for file in planned)
    return replace(plan, planned=planned, partial=is_partial)


def _leave_out(
    file: PlannedFile, stale: Collection[str], attestations: Mapping[str, bytes | None]
) -> PlannedFile:
    """Leave out a file that is wrong from now on, if the record can keep what is in it."""
    content = attestations.get(file.name) if file.name in stale else None
    if content is None:
        return file
    return PlannedFile(file.info, Action.OMIT, 0, content=content)


def _describe_stale(stale: StaleFile, content: bytes | None) -> str:
    what = "is left out" if content is not None else "stays as it is"
    back = "; `conv2linear restore` gives it back" if content is not None else ""
    return (
        f"{stale.name} {what}: {stale.reason}{back}. To make it anew, in the new folder: "
        f"{stale.remedy}"
    )


_WAYS_OUT = (
    f"`--for {','.join(ENGINES)}` converts it for these engines alone, in which no quantiser meets "
    "the layer; --allow-unsafe-quantization converts it all the same: test the result"
)


def _find_refusal_reason(checkpoint: Checkpoint, loaders: Sequence[Loader]) -> str | None:
    if Loader.TRANSFORMERS not in loaders:
        return None
    return plan_skip_list(checkpoint.config, checkpoint.headers).refusal_reason


def _find_wrong_skip_list(checkpoint: Checkpoint, loaders: Sequence[Loader]) -> Iterator[str]:
    """Warn of layers that transformers would load wrongly, which no conversion changes."""
    if Loader.TRANSFORMERS in loaders and (
        problem := audit_skip_list(checkpoint.config, checkpoint.headers).problem
    ):
        yield f"the original does not load rightly in transformers, nor will this: {problem}"


def _find_separate_models(checkpoint: Checkpoint) -> Iterator[str]:
    """Warn of what is loaded by a config of its own too, which turns no linear layer on."""
    shards = {embedding.shard for embedding in checkpoint.patch_embeddings}
    for folder in list_separate_models(checkpoint.files, shards, subfolder=checkpoint.subfolder):
        yield (
            f"{folder}/ has a {CONFIG_NAME} of its own, which stays as it is: what loads that "
            "folder alone, as diffusers does, will stop with a size mismatch"
        )


def _find_lost_record(checkpoint: Checkpoint, old_record: str | None) -> Iterator[str]:
    if MANIFEST_NAME in checkpoint.files and old_record is None:
        yield (
            f"{MANIFEST_NAME} of the source is not UTF-8 text: the record cannot keep it, and "
            "`conv2linear restore` cannot give it back"
        )


def _find_unread_card(checkpoint: Checkpoint, model_card: str | None) -> Iterator[str]:
    if _is_no_text(checkpoint, model_card):
        yield f"{MODEL_CARD_NAME} stays as it is, without a section: it is not UTF-8 text"


def _is_no_text(checkpoint: Checkpoint, model_card: str | None) -> bool:
    """Tell whether there is a model card of which nothing can be read."""
    return model_card is None and MODEL_CARD_NAME in checkpoint.files


def _find_warnings(refusal_reason: str | None, model_card: str | None) -> Iterator[str]:
    if refusal_reason:
        yield f"unsafe quantisation: {refusal_reason}"
    if model_card is not None and (problem := find_front_matter_problem(model_card)):
        yield f"{MODEL_CARD_NAME}: its front matter gets no tag and no base model: {problem}"


def _plan_files(
    checkpoint: Checkpoint,
    options: ConversionOptions,
    *,
    config: ModelConfig,
    model_card: str | None,
    old_record: str | None,
) -> tuple[PlannedFile, ...]:
    shapes = shapes_by_shard(checkpoint.patch_embeddings, Layout.LINEAR)
    originals: dict[str, str | None] = {checkpoint.config_name: checkpoint.config.text}
    config_bytes = len(config.text.encode())
    files = dict(checkpoint.files)
    is_folder = any(name.startswith(f"{MODEL_CARD_NAME}/") for name in files)
    if options.model_card and not is_folder and not _is_no_text(checkpoint, model_card):
        originals[MODEL_CARD_NAME] = model_card
        files.setdefault(MODEL_CARD_NAME, FileInfo(MODEL_CARD_NAME, 0, "new"))

    def plan_file(info: FileInfo) -> PlannedFile:
        name, size = info.name, info.size_bytes
        if name in shapes:
            header = reshape_header(checkpoint.headers[name], shapes[name])
            return PlannedFile(info, Action.RESHAPE, size, header=header)
        if name in originals:
            size = config_bytes if name == checkpoint.config_name else size
            return PlannedFile(info, Action.EDIT, size, original=originals[name])
        if name == MANIFEST_NAME:  # a new one is written, which keeps the text of this one
            return PlannedFile(info, Action.OMIT, 0, original=old_record)
        return PlannedFile(info, Action.COPY, size)

    planned = [plan_file(info) for info in files.values()]
    planned += plan_omitted(checkpoint.repository.omitted)
    return tuple(sorted(planned, key=lambda file: file.name))
