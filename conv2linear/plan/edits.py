"""The texts that edited files get: decided here for convert, verify and compare alike."""

from __future__ import annotations

from collections.abc import Sequence

from conv2linear.checkpoint.config import (
    CONFIG_NAME,
    ModelConfig,
    disable_fusion,
    enable_fusion,
    parse_config,
)
from conv2linear.checkpoint.quantization import edit_skip_list, plan_skip_list, read_quantization
from conv2linear.errors import CheckFailedError
from conv2linear.record.manifest import CheckRecord, EditRecord, Manifest, TensorRecord
from conv2linear.record.model_card import MODEL_CARD_NAME, edit_model_card, remove_section
from conv2linear.sources.base import Origin
from conv2linear.version import __version__


def convert_config(config: ModelConfig) -> ModelConfig:
    """Return the config of the linear checkpoint: fusion is on, and no quantiser takes the layer.

    Raises `BadCheckpointError` where `fusion_config` or a skip list is not what it should be.
    """
    return edit_skip_list(enable_fusion(config), plan_skip_list(read_quantization(config)))


def convert_model_card(
    original: str | None,
    *,
    origin: Origin | None,
    tensors: Sequence[TensorRecord],
    checks: Sequence[CheckRecord],
) -> str:
    """Return the model card of the linear checkpoint, as this version of the tool writes it."""
    return edit_model_card(
        original, tool=__version__, origin=origin, tensors=tensors, checks=checks
    )


def restore_config(config: ModelConfig) -> dict[str, str]:
    """Return config.json without what a conversion always adds, by its name."""
    return {CONFIG_NAME: disable_fusion(config).text}


def restore_model_card(text: str | None) -> dict[str, str]:
    """Return README.md without the section that a conversion adds, by its name, if there is one."""
    return {} if text is None else {MODEL_CARD_NAME: remove_section(text)}


def repeat_edit(edit: EditRecord, manifest: Manifest) -> str | None:
    """Return the text that an edit on record gives; None where only the version that made it knows.

    Raises `CheckFailedError` where the record names an edit that no conversion makes.
    """
    if edit.name == CONFIG_NAME and edit.original is not None:
        return convert_config(parse_config(edit.original)).text
    if edit.name == MODEL_CARD_NAME:
        return repeat_model_card(edit.original, manifest)
    raise CheckFailedError(f"{edit.name} is on record as edited, which conv2linear never does")


def repeat_model_card(original: str | None, manifest: Manifest) -> str | None:
    """Return the model card that a conversion on record makes of `original`.

    None where another version of the tool made the record: its card may read differently.
    """
    if manifest.tool != __version__:
        return None
    return convert_model_card(
        original, origin=manifest.source, tensors=manifest.tensors, checks=manifest.check
    )
