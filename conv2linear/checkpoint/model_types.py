"""The model types whose patch embedding is a Conv3d that is a linear map: one row for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conv2linear.checkpoint.loaders import Loader
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError

# The module that transformers builds for a linear patch embedding, in the loaded model.
LINEAR_MODULE = "model.visual.patch_embed.linear_proj"
LINEAR_SUFFIX = "patch_embed.linear_proj"  # whatever stands before it
_MAX_SIZE = 2**32  # no layer comes near it
# The equivalence check puts K patches of K values through the layer: its time grows as K²·O.
# Known layers have K up to 1536, and 4 million values.
MAX_IN_FEATURES = 2**14
MAX_VALUES = 2**26


@dataclass(frozen=True)
class Geometry:
    """Sizes of a patch embedding: embed dim O, channels C, temporal patch T, patch P."""

    embed_dim: int
    in_channels: int
    temporal_patch_size: int
    patch_size: int

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the Conv3d kernel, `[O, C, T, P, P]`."""
        patch = self.patch_size
        return (self.embed_dim, self.in_channels, self.temporal_patch_size, patch, patch)

    @property
    def in_features(self) -> int:
        """Values in one flattened patch, `K = C·T·P·P`."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def linear_shape(self) -> tuple[int, int]:
        """Shape of the linear weight, `[O, K]`."""
        return (self.embed_dim, self.in_features)


_VLLM = frozenset({Loader.VLLM})
_BOTH = frozenset({Loader.VLLM, Loader.SGLANG})
_NONE: frozenset[Loader] = frozenset()


@dataclass(frozen=True)
class ModelType:
    """A model type: what a size defaults to that its config lacks, and whether there is a bias.

    The defaults are those of the type's vision config class in transformers 5.24. `vision_module`
    is the vision tower in the loaded model, whatever stands before the names in the checkpoint.
    `classes_in` are the engines with a model class of their own for it, whose patch embedding is
    the `Conv3dLayer` that the plugins hook (read in vLLM 0.32.0 and SGLang 0.5.23); `run_in` those
    in which `scripts/check_engine` has run it, original against linear.
    """

    model_type: str
    embed_dim: int
    patch_size: int = 14
    has_bias: bool = True
    vision_module: str = "model.visual"
    classes_in: frozenset[Loader] = _BOTH
    run_in: frozenset[Loader] = _NONE

    @property
    def linear_module(self) -> str:
        """The module that transformers builds for the linear layer, in the loaded model."""
        return f"{self.vision_module}.patch_embed.linear_proj"

    def geometry(self, vision_config: Mapping[str, Any]) -> Geometry:
        """Read the sizes from config.json's `vision_config`.

        Raises `BadCheckpointError` where one is not a positive integer, and
        `UnsupportedCheckpointError` where the layer is too large to be checked.
        """

        def size(key: str, default: int) -> int:
            value = vision_config.get(key, default)
            if type(value) is not int or not 0 < value < _MAX_SIZE:
                found = value if type(value) is not int or value <= 0 else "too large"
                raise BadCheckpointError(
                    f"config.json: vision_config.{key} is {found}, expected a positive integer"
                )
            return value

        geometry = Geometry(
            embed_dim=size("hidden_size", self.embed_dim),
            in_channels=size("in_channels", 3),
            temporal_patch_size=size("temporal_patch_size", 2),
            patch_size=size("patch_size", self.patch_size),
        )
        columns = geometry.in_features
        if columns > MAX_IN_FEATURES or columns * geometry.embed_dim > MAX_VALUES:
            raise UnsupportedCheckpointError(
                f"config.json: a patch embedding {list(geometry.linear_shape)} is too large to be "
                f"checked: at most {MAX_IN_FEATURES} values in a patch, and {MAX_VALUES} in all"
            )
        return geometry


MODEL_TYPES = {
    row.model_type: row
    for row in (
        ModelType("glm4v", embed_dim=1536, run_in=_BOTH),  # GLM-4.1V, GLM-4.6V-Flash
        ModelType("glm4v_moe", embed_dim=1536, run_in=_BOTH),  # GLM-4.5V, GLM-4.6V
        ModelType("glm46v", embed_dim=1536, classes_in=_NONE),
        ModelType("glm_ocr", embed_dim=1024, run_in=_BOTH),
        ModelType("glm5_next", embed_dim=1024),
        # No GLM, but the same layer. Those that look alike and are not here: refused_types.py.
        ModelType("qwen3_vl", embed_dim=1152, patch_size=16),
        ModelType("qwen3_vl_moe", embed_dim=1152, patch_size=16),
        ModelType("qwen3_5", embed_dim=1152, patch_size=16),
        ModelType("qwen3_5_moe", embed_dim=1152, patch_size=16),
        ModelType("qwen4_exp", embed_dim=1152, patch_size=16),
        # Saved without any prefix, `patch_embed.proj.weight`; its shards lie in sub-folders. The
        # engines know it as Cosmos3ForConditionalGeneration, as published configs name it.
        ModelType("cosmos3_omni", embed_dim=1152, patch_size=16),
        ModelType("exaone4_5", embed_dim=3584, has_bias=False, classes_in=_VLLM),
        ModelType("cohere_compass", embed_dim=1152, patch_size=16, classes_in=_VLLM),
        ModelType(
            "hyperclovax_vision_v2",
            embed_dim=3584,
            has_bias=False,
            vision_module="model.vision_model",
            classes_in=_NONE,  # vLLM's is for the name that it is published by, see below
        ),
    )
}


@dataclass(frozen=True)
class PublishedName:
    """A name that checkpoints of a model type are published by, and transformers saves none by.

    Its auto classes do not know `name`: `model_class` loads such a checkpoint, and takes it for
    `model_type`. Others may use the name too: `architecture` tells which ones these are.
    `classes_in` are the engines with a model class for it.
    """

    name: str
    architecture: str
    model_type: str
    model_class: str
    classes_in: frozenset[Loader]


PUBLISHED_NAMES = {
    row.name: row
    for row in (
        PublishedName(  # HyperCLOVAX-SEED-Think
            "vlm",
            architecture="HCXVisionV2ForCausalLM",
            model_type="hyperclovax_vision_v2",
            model_class="HyperCLOVAXVisionV2ForConditionalGeneration",
            classes_in=_VLLM,
        ),
    )
}
