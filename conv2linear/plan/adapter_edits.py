"""The adapter_config.json that an adapter gets for the other layout of its base.

PEFT makes an adapter where the config says so, and then fills in the tensors that it finds: one
that it does not expect is dropped in silence. So the config must name the layer that the tensors
are named for, with their rank and their scale, and no layer that there are none for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from conv2linear.checkpoint.adapter.config import (
    ADAPTER_CONFIG_NAME,
    AdapterConfig,
    parse_adapter_config,
)
from conv2linear.checkpoint.adapter.layer import AdapterPart, LayerTensor, module_in
from conv2linear.checkpoint.adapter.matching import (
    is_all_linear,
    is_excluded,
    is_saved,
    is_targeted,
    pattern_value,
)
from conv2linear.checkpoint.json_text import set_member
from conv2linear.checkpoint.model_types import LINEAR_MODULE
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError

# PEFT 0.21 has none of these for a Conv3d: `is_lora_variant` in its LoraConfig, but for DoRA.
LINEAR_ONLY_VARIANTS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
_DEFAULT_RANK = _DEFAULT_ALPHA = 8  # of PEFT's LoraConfig
_SUFFIXES = {Layout.CONV3D: "patch_embed.proj", Layout.LINEAR: "patch_embed.linear_proj"}


def move_adapter_config(
    config: AdapterConfig, tensors: Sequence[LayerTensor], to: Layout, *, adapted: Sequence[str]
) -> AdapterConfig:
    """Return the config by which PEFT puts an adapter's tensors onto a base of the other layout.

    `tensors` are those of patch embeddings, `adapted` the names of all modules with a LoRA. Where
    nothing has to change the text is the same; else all that is not changed in it is.

    Raises `UnsupportedCheckpointError` where PEFT would do something else on the other layout.
    """
    modules = sorted({tensor.module for tensor in tensors}) or [module_in(LINEAR_MODULE, to)]
    values = dict(config.values)
    for module in modules:
        parts = {tensor.part: tensor for tensor in tensors if tensor.module == module}
        # One suffix covers the layer under the names of every class that loads the base.
        is_only = len(modules) == 1 and not values.get("layers_to_transform")
        layer = _MovedLayer(module, to, entry=_SUFFIXES[to] if is_only else module_in(module, to))
        if AdapterPart.WEIGHT in parts:
            values |= layer.save(values)
        elif is_saved(values, layer.name):
            raise _unsupported(f"modules_to_save names {layer.name}, and there is no copy of it")
        if AdapterPart.LORA_A in parts:
            _refuse_linear_only(values)
            values |= layer.target(values, adapted)
            values |= layer.scale(values, rank=parts[AdapterPart.LORA_A].info.shape[0])
        elif is_targeted(values, layer.name, is_linear=to is Layout.LINEAR):
            values |= layer.exclude(values)
    text = config.text
    for name, value in values.items():
        if value != config.values.get(name):
            text = set_member(text, (name,), value)
    return parse_adapter_config(text)


class _MovedLayer:
    """One patch embedding under its new name, and the values of a config that it needs."""

    def __init__(self, module: str, to: Layout, *, entry: str) -> None:
        self.name, self._old, self._to, self._entry = module_in(module, to), module, to, entry
        self._suffix = _SUFFIXES[Layout.LINEAR if to is Layout.CONV3D else Layout.CONV3D]

    def target(self, values: Mapping[str, Any], adapted: Sequence[str]) -> dict[str, Any]:
        """Make PEFT adapt the layer."""
        if is_excluded(values, self.name) is not False:
            raise _unsupported(
                f"exclude_modules or modules_to_save keeps PEFT from a LoRA on {self.name}"
            )
        target = values.get("target_modules")
        if isinstance(target, list):
            target = [self._rename(name) for name in target]
        if self._is_targeted(values, target):
            return {"target_modules": target}
        if is_all_linear(values):  # a Conv3d is not among these: name what has weights instead
            target = sorted(self.name if name == self._old else name for name in adapted)
        elif isinstance(target, str):
            target = _add_alternative(target, self._entry)
        else:
            target = [*(target or []), self._entry]
        if self._is_targeted(values, target) is False:
            raise _unsupported(f"target_modules cannot be made to match {self.name}")
        return {"target_modules": target}

    def exclude(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Keep PEFT from adapting the layer, of which the adapter has nothing."""
        exclude = values.get("exclude_modules")
        if isinstance(exclude, str) and exclude:
            return {"exclude_modules": _add_alternative(exclude, self._entry)}
        return {"exclude_modules": [*(exclude or []), self._entry]}

    def save(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Make PEFT replace the layer by the copy that the adapter has."""
        names = [self._rename(name) for name in values.get("modules_to_save") or []]
        if not is_saved({"modules_to_save": names}, self.name):
            names.append(self._entry)
        return {"modules_to_save": names}

    def scale(self, values: Mapping[str, Any], *, rank: int) -> dict[str, Any]:
        """Give the layer the rank of its tensors and the alpha that it had."""
        alpha_default = values.get("lora_alpha", _DEFAULT_ALPHA)
        alpha = pattern_value(values, "alpha_pattern", self._old, alpha_default)
        if alpha is None:
            raise _unsupported(f"which alpha_pattern {self._old} has is not known")
        rank_default = values.get("r", _DEFAULT_RANK)
        return {
            **self._set_pattern(values, "rank_pattern", rank, default=rank_default),
            **self._set_pattern(values, "alpha_pattern", alpha, default=alpha_default),
        }

    def _set_pattern(
        self, values: Mapping[str, Any], field: str, value: Any, *, default: Any
    ) -> dict[str, Any]:
        pattern = {self._rename(name): each for name, each in (values.get(field) or {}).items()}
        if pattern_value({field: pattern}, field, self.name, default) != value:
            others = {name: each for name, each in pattern.items() if name != self._entry}
            pattern = {self._entry: value} | others  # the first that matches counts
        return {field: pattern} if pattern else {}

    def _is_targeted(self, values: Mapping[str, Any], target: Any) -> bool | None:
        changed = {**values, "target_modules": target}
        return is_targeted(changed, self.name, is_linear=self._to is Layout.LINEAR)

    def _rename(self, entry: str) -> str:
        """Return the new name of an entry that can mean nothing but the layer."""
        if entry == self._suffix or entry.endswith(f".{self._suffix}"):
            return module_in(entry, self._to)
        return entry


def _refuse_linear_only(values: Mapping[str, Any]) -> None:
    variant = next((name for name in LINEAR_ONLY_VARIANTS if values.get(name)), None)
    if variant:
        raise _unsupported(f"{variant} is set, which PEFT does not have for a Conv3d")
    init = values.get("init_lora_weights", True)
    if not isinstance(init, bool) and str(init).lower() != "gaussian":
        raise _unsupported(
            f"init_lora_weights is {init!r}, by which PEFT treats a Conv3d and a linear layer "
            "differently when it loads the adapter"
        )


def _add_alternative(pattern: str, name: str) -> str:
    """Let a regex match a name too, whatever may stand before it."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadCheckpointError(
            f"{ADAPTER_CONFIG_NAME}: {pattern!r} is not a valid pattern: {error}"
        ) from None
    if re.search(r"\(\?[a-zA-Z]*x", pattern):
        raise _unsupported("a pattern with comments, which nothing can be added to")
    return rf"{pattern}|(?:.*\.)?{re.escape(name)}"


def _unsupported(reason: str) -> UnsupportedCheckpointError:
    return UnsupportedCheckpointError(
        f"{ADAPTER_CONFIG_NAME}: {reason}",
        hint="merge the adapter into its base with PEFT, and convert the merged checkpoint",
    )
