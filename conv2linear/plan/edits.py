"""The texts that edited files get: decided here for convert, verify and compare alike."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.compatibility import Loading
from conv2linear.checkpoint.config import (
    CONFIG_NAME,
    ModelConfig,
    disable_fusion,
    enable_fusion,
    parse_config,
)
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.loaders import ALL_LOADERS, Loader
from conv2linear.checkpoint.other_kinds import list_separate_models
from conv2linear.checkpoint.quantization.methods import METHODS
from conv2linear.checkpoint.quantization.quantization import read_quantization
from conv2linear.checkpoint.quantization.skip_list_edit import edit_skip_list, plan_skip_list
from conv2linear.errors import BadCheckpointError, CheckFailedError
from conv2linear.record.manifest import (
    MANIFEST_NAME,
    CheckRecord,
    EditRecord,
    Manifest,
    TensorRecord,
)
from conv2linear.record.model_card import (
    MODEL_CARD_NAME,
    CardFacts,
    edit_model_card,
    remove_section,
)
from conv2linear.sources.base import Origin
from conv2linear.version import __version__


def convert_config(
    config: ModelConfig,
    headers: Mapping[str, Header],
    *,
    loaders: Sequence[Loader] = ALL_LOADERS,
) -> ModelConfig:
    """Return the config of the linear checkpoint, as these loaders need it.

    For transformers fusion is on, and no quantiser takes the layer. Without it fusion is off:
    transformers then stops with an error that names the sizes, and vLLM and SGLang need neither.
    `headers` are those of the checkpoint before or after.

    Raises `BadCheckpointError` where `fusion_config` or a skip list is not what it should be.
    """
    is_fused = Loader.TRANSFORMERS in loaders
    changed = enable_fusion(config) if is_fused else disable_fusion(config)
    if problem := changed.fusion_problem:
        raise BadCheckpointError(f"{CONFIG_NAME}: {problem}")
    return edit_skip_list(changed, plan_skip_list(config, headers)) if is_fused else changed


def convert_model_card(
    original: str | None,
    *,
    config: ModelConfig,
    origin: Origin | None,
    tensors: Sequence[TensorRecord],
    checks: Sequence[CheckRecord],
    compatibility: Sequence[Loading],
    files: Iterable[str],
    subfolder: str,
) -> str:
    """Return the model card of the linear checkpoint, as this version of the tool writes it.

    `config` is that of the source, `compatibility` that of the result; `files` are the names of all
    files of the repository, and `subfolder` is where the checkpoint is in it.
    """
    shards = {tensor.shard for tensor in tensors}
    facts = CardFacts(
        tool=__version__,
        origin=origin,
        tensors=tensors,
        checks=checks,
        compatibility=compatibility,
        is_quantized=read_quantization(config) is not None,
        subfolder=subfolder,
        separate_models=list_separate_models(files, shards, subfolder=subfolder),
    )
    return edit_model_card(original, facts)


def restore_config(checkpoint: Checkpoint) -> dict[str, str]:
    """Return config.json without what a conversion always adds, by its name."""
    return {checkpoint.config_name: disable_fusion(checkpoint.config).text}


def restore_model_card(text: str | None) -> dict[str, str]:
    """Return README.md without the section that a conversion adds, by its name, if there is one."""
    return {} if text is None else {MODEL_CARD_NAME: remove_section(text)}


def check_edits(
    manifest: Manifest, *, read: Callable[[str], str], headers: Mapping[str, Header]
) -> dict[str, bool]:
    """Check every edit on record; return by name whether this version knows what it gives.

    `read` returns the text that a file has now, `headers` are those of the output, none where they
    cannot be read. Raises as `check_edit` does, and where config.json
    is not on record as edited: every conversion does that.
    """
    config_name = manifest.config_name
    if config_name not in {edit.name for edit in manifest.edits}:
        raise CheckFailedError(f"{config_name} is not on record as edited, and always is")
    return {
        edit.name: check_edit(edit, manifest, found=read(edit.name), headers=headers)
        for edit in manifest.edits
    }


def check_edit(
    edit: EditRecord, manifest: Manifest, *, found: str, headers: Mapping[str, Header]
) -> bool:
    """Check that `found` is the text that an edit on record gives.

    Returns false where only the version that made the edit knows what it gives. Raises
    `CheckFailedError` where it is another text, or an edit that no conversion makes.
    """
    if edit.name == manifest.config_name and edit.original is not None:
        if difference := find_config_difference(
            edit.original, manifest, found=found, headers=headers
        ):
            raise CheckFailedError(
                f"{edit.name} is not what editing the recorded original gives: {difference} differs"
            )
        return True
    if edit.name == MODEL_CARD_NAME:
        expected = repeat_model_card(edit.original, manifest)
        if expected not in (None, found):
            raise CheckFailedError(f"{edit.name} is not what editing the recorded original gives")
        return expected is not None
    if edit.name == MANIFEST_NAME or manifest.tool != __version__:
        return False  # the record itself may stand in the place of another file
    raise CheckFailedError(f"{edit.name} is on record as edited, which conv2linear never does")


def find_config_difference(
    original: str, manifest: Manifest | None, *, found: str, headers: Mapping[str, Header]
) -> str | None:
    """Say where `found` is not the config.json that a conversion makes of `original`.

    Returns the name of a value, or "its text"; None where it is.

    A record of this version asks for the very text that this version writes. Another version may
    have edited by other rules, and of an overlay the headers may not tell what the edit followed
    from: then only an edit that no version makes is a difference. Without a record every value, but
    not the text, must be what this version gives.
    """
    config = parse_config(original)
    if manifest is None:
        expected = convert_config(config, headers)
        return _name_difference(expected.values, parse_config(found).values)
    if not _can_repeat(config, manifest, headers):
        return _name_difference(*_without_edits(config, parse_config(found)))
    expected = convert_config(config, headers, loaders=manifest.made_for)
    if found == expected.text:
        return None
    return _name_difference(expected.values, parse_config(found).values) or "its text"


def _can_repeat(config: ModelConfig, manifest: Manifest, headers: Mapping[str, Header]) -> bool:
    """Tell whether this version, which has these headers, makes the edit again that is on record.

    Records without loaders are of the versions before there was that choice.
    """
    if manifest.tool != __version__ or manifest.loaders is None or not headers:
        return False
    return not (manifest.partial and plan_skip_list(config, headers).from_headers)


def is_same_json(one: object, two: object) -> bool:
    """Tell whether two values are the same in JSON: `1`, `1.0` and `true` are three values."""
    if one is _ABSENT or two is _ABSENT:
        return one is two
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


_ABSENT = object()  # a member that is null is not the same as none


def _name_difference(one: Mapping[str, Any], two: Mapping[str, Any]) -> str | None:
    names = sorted(one.keys() | two.keys())
    differ = (n for n in names if not is_same_json(one.get(n, _ABSENT), two.get(n, _ABSENT)))
    return next(differ, None)


def _without_edits(
    original: ModelConfig, found: ModelConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of both without what some version of a conversion adds.

    That is `fusion_config.patch_embeddings`, and names at the end of the lists of modules that are
    not to be quantised.
    """
    values, other = copy.deepcopy(dict(original.values)), copy.deepcopy(dict(found.values))
    for each in (values, other):
        fusion = each.get("fusion_config")
        if isinstance(fusion, dict):
            fusion.pop("patch_embeddings", None)
        if not fusion:
            each.pop("fusion_config", None)
    fields = {field for method in METHODS.values() for field in method.list_fields}
    for one, two in zip(_quantizations(values), _quantizations(other), strict=True):
        for field in fields & two.keys():
            before, after = one.get(field) or [], two[field]
            if isinstance(before, list) and _only_adds(before, after):
                one[field] = after
    return values, other


def _quantizations(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the quantisation configs at both places where one may be, empty where none is."""
    places = (values, values.get("text_config"))
    found = [each.get("quantization_config") if isinstance(each, dict) else None for each in places]
    return [each if isinstance(each, dict) else {} for each in found]


def _only_adds(before: list[Any], after: Any) -> bool:
    return (
        isinstance(after, list)
        and is_same_json(after[: len(before)], before)
        and all(isinstance(name, str) for name in after[len(before) :])
    )


def repeat_model_card(original: str | None, manifest: Manifest) -> str | None:
    """Return the model card that a conversion on record makes of `original`.

    None where another version of the tool made the record: its card may read differently.
    """
    if manifest.tool != __version__:
        return None
    config = next((e.original for e in manifest.edits if e.name == manifest.config_name), None)
    if config is None:
        return None
    return convert_model_card(
        original,
        config=parse_config(config),
        origin=manifest.source,
        tensors=manifest.tensors,
        checks=manifest.check,
        compatibility=manifest.compatibility,
        files=[record.name for record in (*manifest.files, *manifest.absent)],
        subfolder=manifest.subfolder,
    )
