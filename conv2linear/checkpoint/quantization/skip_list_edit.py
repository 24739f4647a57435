"""Decide what the skip list of a checkpoint needs once its patch embedding is linear.

A Conv3d is never a quantisation target, so a quantised checkpoint does not list it among the
modules to skip. As `nn.Linear` transformers would quantise it on load, and the model would be
broken. vLLM and SGLang keep the parameter of a Conv3d: what is made for them alone needs no edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conv2linear.checkpoint.config import ModelConfig, parse_config
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.json_text import append_items, set_member
from conv2linear.checkpoint.model_types import LINEAR_MODULE
from conv2linear.checkpoint.quantization.compressed_tensors import find_fusion_problem
from conv2linear.checkpoint.quantization.loaded_modules import (
    Kind,
    find_linear_projections,
    read_modules,
)
from conv2linear.checkpoint.quantization.methods import Choice
from conv2linear.checkpoint.quantization.quantization import Quantization, read_quantization
from conv2linear.checkpoint.quantization.skip_list import covers, loose_entry

# A suffix holds however the model is loaded: with `AutoModel` its names lack `model.`.
LOOSE_ENTRY = "patch_embed.linear_proj"
# Covers, of what compressed-tensors matches exactly, the names that lack `model.`.
REGEX_ENTRY = r"re:.*patch_embed\.linear_proj$"


@dataclass(frozen=True)
class SkipListEdit:
    """What a conversion does to the skip list.

    `entries` are appended, or make a new list where `creates` is set. `refusal_reason` says why
    transformers may not load the result: it is refused unless the user insists. `from_headers` is
    set where the entries follow from the headers, and not from config.json alone.
    """

    entries: tuple[str, ...] = ()
    creates: bool = False
    refusal_reason: str | None = None
    from_headers: bool = False


def plan_skip_list(config: ModelConfig, headers: Mapping[str, Header]) -> SkipListEdit:
    """Decide which entries the skip list needs for transformers, and what it would not load.

    Raises `BadCheckpointError` where the quantisation config or its list is not what it should be.
    """
    quantization = read_quantization(config)
    if quantization is None:
        return SkipListEdit()
    method, rules = quantization.method, quantization.rules
    if rules is None:
        return SkipListEdit(refusal_reason=quantization.why_no_rules)
    if rules.choice is Choice.ELSEWHERE:
        return SkipListEdit()
    if rules.choice is Choice.TARGETS:
        return _plan_targets(config, headers, quantization)
    if rules.choice is Choice.BLOCKS:
        modules = _find_layers(config, headers)
        return SkipListEdit(refusal_reason=_find_block_problem(quantization.values, modules))
    if rules.choice is Choice.UNCHECKED:
        return SkipListEdit(
            refusal_reason=f"it was not checked which layers transformers' quantiser for "
            f"{method!r} takes"
        )
    if quantization.skip_list:
        modules = _find_layers(config, headers)
        is_covered = all(covers(quantization, module) for module in modules)
        return SkipListEdit(() if is_covered else (LOOSE_ENTRY,))
    if not rules.makes_list:
        return SkipListEdit(refusal_reason=_EMPTY_LIST_IN_USE)
    derived = _derive_entries(config, headers)
    if derived is None:
        return SkipListEdit(("lm_head", LOOSE_ENTRY), creates=True, refusal_reason=_NO_LIST)
    return SkipListEdit((*derived, LOOSE_ENTRY), creates=True, from_headers=True)


def edit_skip_list(config: ModelConfig, edit: SkipListEdit) -> ModelConfig:
    """Apply an edit to the skip list; nothing in it is dropped or reordered."""
    quantization = read_quantization(config)
    path = quantization.skip_list_path if quantization else None
    if path is None or not edit.entries:
        return config
    change = set_member if edit.creates else append_items
    return parse_config(change(config.text, path, list(edit.entries)))


_EMPTY_LIST_IN_USE = (
    "awq without modules_to_not_convert: vLLM finds unquantised layers only while that list is "
    "empty, and transformers would quantise the patch embedding"
)
_NO_LIST = (
    "no list of modules to skip: adding one switches off the defaults of transformers, which "
    "keep lm_head and others in full precision, and the headers do not show which those are"
)
_BLOCK_FIELDS = ("block_name_to_quantize", "to_quant_block_names")
_NO_BLOCKS = "auto-round without block_name_to_quantize: it is not known which layers it takes"
_BLOCKS_WITH_THE_LAYER = "auto-round, whose block_name_to_quantize has the patch embedding in it"


def _plan_targets(
    config: ModelConfig, headers: Mapping[str, Header], quantization: Quantization
) -> SkipListEdit:
    names = quantization.skip_list
    modules = _find_layers(config, headers)
    return SkipListEdit(
        tuple(e for e in (*modules, REGEX_ENTRY) if e not in (names or ())),
        creates=names is None,
        refusal_reason=find_fusion_problem(quantization.values),
    )


def _find_layers(config: ModelConfig, headers: Mapping[str, Header]) -> tuple[str, ...]:
    return find_linear_projections(config, headers) or (LINEAR_MODULE,)


def _find_block_problem(values: Mapping[str, Any], modules: Sequence[str]) -> str | None:
    """Say why auto-round may take the patch embedding; None where its blocks lie elsewhere."""
    blocks = next((values[field] for field in _BLOCK_FIELDS if values.get(field)), None)
    listed = blocks if isinstance(blocks, list) else [blocks]
    texts = [each for each in listed if isinstance(each, str)]
    if len(texts) < len(listed):
        return _NO_BLOCKS
    names = [name.strip() for text in texts for name in text.split(",")]
    layers = [module.removeprefix("model.") for module in modules]
    blocks_to_quantize = [f"{name.removeprefix('model.')}." for name in names]
    is_in = any(layer.startswith(block) for layer in layers for block in blocks_to_quantize)
    return _BLOCKS_WITH_THE_LAYER if is_in or not all(names) else None


def _derive_entries(config: ModelConfig, headers: Mapping[str, Header]) -> tuple[str, ...] | None:
    """Return entries for exactly the linear layers that are stored in full precision.

    None where the headers do not tell them: nothing is stored quantised, or it is not known how the
    method stores a layer. A tied `lm_head` is not stored, and yet a layer to skip.
    """
    quantization = read_quantization(config)
    rules = quantization.rules if quantization else None
    projections = set(find_linear_projections(config, headers))
    modules = [m for m in read_modules(config, headers) if m.name not in projections]
    quantized = {m.name for m in modules if m.is_quantized}
    if rules is None or not rules.is_audited or not quantized:
        return None
    full = {m.name for m in modules if m.kind is Kind.LINEAR and not m.is_quantized}
    names = {name.removeprefix("model.") for name in full | {"lm_head"} - quantized}
    entries = [loose_entry(name) for name in names]
    if any(entry.matches(module) for entry in entries for module in quantized):
        return None
    return tuple(sorted(names))
