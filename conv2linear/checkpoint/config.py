"""Read config.json, and turn on the linear patch embedding in it without touching the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conv2linear.checkpoint.json_text import loads_document, remove_member, set_member
from conv2linear.checkpoint.model_types import (
    MODEL_TYPES,
    PUBLISHED_NAMES,
    Geometry,
    ModelType,
    PublishedName,
)
from conv2linear.checkpoint.refused_types import REFUSED_TYPES
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError

CONFIG_NAME = "config.json"
_FUSIONS = ("patch_embeddings",)  # all that transformers has


@dataclass(frozen=True)
class ModelConfig:
    """A checkpoint's config.json: its text, and the values that it has."""

    text: str
    values: Mapping[str, Any]

    @property
    def model_type(self) -> str:
        """The model type, as `transformers` names it."""
        published = self.published_name
        return published.model_type if published else str(self.values["model_type"])

    @property
    def published_name(self) -> PublishedName | None:
        """The name that stands there instead of the model type, None where that does itself."""
        published = PUBLISHED_NAMES.get(self.values["model_type"])
        architectures = self.values.get("architectures")
        if not published or not isinstance(architectures, list):
            return None
        return published if published.architecture in architectures else None

    @property
    def supported_type(self) -> ModelType:
        """The row of this model type. Raises `UnsupportedCheckpointError` if there is none."""
        row = MODEL_TYPES.get(self.model_type)
        if row is not None:
            return row
        message = f"{CONFIG_NAME}: model type {self.model_type!r} is not supported"
        refused = REFUSED_TYPES.get(self.model_type)
        if refused is not None:
            reason, hint = refused.refusal.reason, refused.refusal.hint
            raise UnsupportedCheckpointError(f"{message}: {reason}", hint=hint)
        raise UnsupportedCheckpointError(
            message, hint=f"supported are {', '.join(sorted(MODEL_TYPES))}"
        )

    @property
    def geometry(self) -> Geometry:
        """Sizes of the patch embedding. Raises `BadCheckpointError` where one is impossible."""
        model_type = self.supported_type  # refused first: it need not have a vision_config
        vision_config = self.values.get("vision_config")
        if not isinstance(vision_config, dict):
            raise BadCheckpointError(f"{CONFIG_NAME}: vision_config is missing or not an object")
        return model_type.geometry(vision_config)

    @property
    def fusion_enabled(self) -> bool:
        """Whether transformers will build a linear patch embedding (options count as yes)."""
        fusion = self.values.get("fusion_config")
        setting = fusion.get("patch_embeddings") if isinstance(fusion, dict) else None
        return setting is True or isinstance(setting, dict)

    @property
    def fusion_problem(self) -> str | None:
        """Why transformers 5.6 to 5.23 refuse `fusion_config`, None where they do not."""
        fusion = self.values.get("fusion_config")
        if fusion is None:
            return None
        if not isinstance(fusion, dict):
            return "fusion_config is not an object"
        for name, setting in fusion.items():
            if name not in _FUSIONS:
                return f"fusion_config.{name} is not a fusion that transformers knows"
            if not isinstance(setting, bool | dict):
                return f"fusion_config.{name} is neither true, false nor an object of options"
        return None


def parse_config(text: str) -> ModelConfig:
    """Parse the text of config.json.

    Raises `BadCheckpointError` where it is not one JSON object with a model type.
    """
    try:
        values = loads_document(text)
    except ValueError as error:
        raise BadCheckpointError(f"{CONFIG_NAME} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise BadCheckpointError(f"{CONFIG_NAME} is not a JSON object")
    if not isinstance(values.get("model_type"), str):
        raise BadCheckpointError(
            f"{CONFIG_NAME} has no model_type",
            hint="is this the folder of a transformers checkpoint?",
        )
    return ModelConfig(text, values)


def enable_fusion(config: ModelConfig) -> ModelConfig:
    """Set `fusion_config.patch_embeddings` to true; all other text stays as it is.

    Raises `BadCheckpointError` where `fusion_config` is something else than an object.
    """
    if config.fusion_enabled:
        return config
    fusion = config.values.get("fusion_config")
    if fusion is None:
        text = set_member(config.text, ("fusion_config",), {"patch_embeddings": True})
    elif isinstance(fusion, dict):
        text = set_member(config.text, ("fusion_config", "patch_embeddings"), True)
    else:
        raise BadCheckpointError(f"{CONFIG_NAME}: fusion_config is not an object")
    return parse_config(text)


def disable_fusion(config: ModelConfig) -> ModelConfig:
    """Take `fusion_config.patch_embeddings` out, and `fusion_config` too if nothing else is in it.

    All other text stays as it is.
    """
    fusion = config.values.get("fusion_config")
    if not isinstance(fusion, dict) or "patch_embeddings" not in fusion:
        return config
    path = ("fusion_config",) if len(fusion) == 1 else ("fusion_config", "patch_embeddings")
    return parse_config(remove_member(config.text, path))
