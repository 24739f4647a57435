"""Model types that look as if they could be converted and cannot: the true reason for each.

The reasons are those of transformers 5.24.0. `scripts/model_types` shows when a later release
fuses what this table calls not fused, or a model type that is in neither table.
"""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.text import TextEnum


class Evidence(TextEnum):
    """How a reason was found out."""

    RUN = "run"  # a tiny model of the type was made linear and loaded
    BUILT = "built"  # a model of the type was built, and no module of it would be fused
    READ = "read"  # in the source of transformers


@dataclass(frozen=True)
class Refusal:
    """Why a linear checkpoint would not work, and whether transformers fuses the layer at all."""

    reason: str
    hint: str
    is_fused: bool


@dataclass(frozen=True)
class RefusedType:
    """A model type that is refused on purpose."""

    model_type: str
    refusal: Refusal
    evidence: Evidence


_KEEP = "leave it as it is: transformers loads it with its Conv3d"
# transformers registers the conversion for the model type of the class, and looks it up by that of
# the config.
_REGISTERED_ELSEWHERE = Refusal(
    "transformers 5.24 registers the conversion of its linear weight for glm46v, whose classes it "
    "has, and leaves the layer random",
    hint=_KEEP,
    is_fused=True,
)
# It looks conversions up by the class first, and by the model type only where that has none.
_SHADOWED = Refusal(
    "transformers 5.24 does not apply the conversion of its linear weight, since its class has "
    "conversions of its own, and leaves the layer random",
    hint=_KEEP,
    is_fused=True,
)
# It reads the patch size from `vision_config`, and without one from the config itself.
_NESTED = Refusal(
    "transformers 5.24 cannot turn the linear layer on where config.json has no vision_config of "
    "its own (AttributeError: no attribute 'patch_size')",
    hint=_KEEP,
    is_fused=True,
)
_NOT_FUSED = Refusal(
    "transformers 5.24 does not build its patch embedding as a linear layer",
    hint=_KEEP,
    is_fused=False,
)
_VIDEO = Refusal(
    "it cuts whole videos itself and takes no flattened patches; transformers 5.24 does not build "
    "its Conv3d as a linear layer",
    hint=_KEEP,
    is_fused=False,
)
_NO_LAYER = Refusal(
    "its Conv3d layers are those of an autoencoder of videos: none is a patch embedding",
    hint="leave it as it is: there is nothing to convert",
    is_fused=False,
)

REFUSED_TYPES = {
    row.model_type: row
    for row in (
        RefusedType("glmga", _REGISTERED_ELSEWHERE, Evidence.RUN),
        RefusedType("qwen2_vl", _SHADOWED, Evidence.RUN),
        RefusedType("qwen2_5_vl", _SHADOWED, Evidence.RUN),
        RefusedType("qwen2_5_omni_thinker", _SHADOWED, Evidence.RUN),
        RefusedType("qwen3_omni_moe_thinker", _SHADOWED, Evidence.RUN),
        RefusedType("qwen2_5_omni", _NESTED, Evidence.RUN),
        RefusedType("qwen3_omni_moe", _NESTED, Evidence.RUN),
        RefusedType("colqwen2", _NESTED, Evidence.RUN),
        RefusedType("minimax_m3_vl", _NOT_FUSED, Evidence.RUN),
        RefusedType("videomae", _VIDEO, Evidence.RUN),
        RefusedType("vjepa2", _VIDEO, Evidence.RUN),
        RefusedType("vivit", _VIDEO, Evidence.BUILT),
        RefusedType("videoprism", _VIDEO, Evidence.BUILT),
        RefusedType("emu3", _NO_LAYER, Evidence.READ),
    )
}
