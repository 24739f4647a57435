"""Read adapter_config.json, in which PEFT says what an adapter is and where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conv2linear.checkpoint.json_text import loads_document
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError

ADAPTER_CONFIG_NAME = "adapter_config.json"
LORA = "LORA"
_MODELS_PACKAGE = "transformers.models."
_NAMES_OR_PATTERN = ("target_modules", "exclude_modules")  # a list of names, or one regex


@dataclass(frozen=True)
class AdapterConfig:
    """An adapter's adapter_config.json: its text, and the values that it has."""

    text: str
    values: Mapping[str, Any]

    @property
    def peft_type(self) -> str:
        """The method, as PEFT names it: LORA, IA3 and others."""
        return str(self.values["peft_type"])

    @property
    def base(self) -> str | None:
        """The base checkpoint as the adapter's author named it: a folder or a Hub id."""
        name = self.values.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None

    @property
    def model_type(self) -> str | None:
        """The model type of the base, None where PEFT has not noted it (with a task type)."""
        mapping = self.values.get("auto_mapping")
        library = mapping.get("parent_library") if isinstance(mapping, dict) else None
        if not isinstance(library, str) or not library.startswith(_MODELS_PACKAGE):
            return None
        return library.removeprefix(_MODELS_PACKAGE).partition(".")[0]


def parse_adapter_config(text: str) -> AdapterConfig:
    """Parse the text of adapter_config.json.

    Raises `BadCheckpointError` where it is not one JSON object with a `peft_type`, or where a value
    that decides where the adapter belongs is of another type than PEFT writes.
    """
    try:
        values = loads_document(text)
    except ValueError as error:
        raise BadCheckpointError(f"{ADAPTER_CONFIG_NAME} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise BadCheckpointError(f"{ADAPTER_CONFIG_NAME} is not a JSON object")
    if not isinstance(values.get("peft_type"), str):
        raise BadCheckpointError(
            f"{ADAPTER_CONFIG_NAME} has no peft_type",
            hint="is this an adapter that PEFT has saved?",
        )
    for name in _NAMES_OR_PATTERN:
        if not isinstance(values.get(name), str | None):
            _refuse_other_than_names(values, name)
    for name in ("modules_to_save", "layers_pattern"):
        if not (name == "layers_pattern" and isinstance(values.get(name), str)):
            _refuse_other_than_names(values, name)
    for name, kinds in (("rank_pattern", int), ("alpha_pattern", int | float)):
        pattern = values.get(name)
        if pattern is not None and not (
            isinstance(pattern, dict) and all(_is_number(v, kinds) for v in pattern.values())
        ):
            raise _not_of_peft(f"{name} is not an object of numbers")
    return AdapterConfig(text, values)


def refuse_other_base(model_type: str | None) -> None:
    """Raise `UnsupportedCheckpointError` where a base has no layer that conv2linear converts.

    `model_type` is None where it is not known.
    """
    if model_type is not None and model_type not in MODEL_TYPES:
        raise UnsupportedCheckpointError(
            f"{ADAPTER_CONFIG_NAME}: the base is of model type {model_type!r}, which is not "
            "supported",
            hint=f"supported are {', '.join(sorted(MODEL_TYPES))}",
        )


def _refuse_other_than_names(values: Mapping[str, Any], name: str) -> None:
    names = values.get(name)
    if names is None or (isinstance(names, list) and all(isinstance(each, str) for each in names)):
        return
    raise _not_of_peft(f"{name} is not a list of names")


def _not_of_peft(reason: str) -> BadCheckpointError:
    return BadCheckpointError(
        f"{ADAPTER_CONFIG_NAME}: {reason}", hint="is it as PEFT has saved it, or edited by hand?"
    )


def _is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
