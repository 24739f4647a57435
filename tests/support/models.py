"""Tiny random checkpoints of every supported model type, made and saved by transformers itself.

They are of the least size that the engines accept too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

GLM_TYPES = ("glm4v", "glm4v_moe", "glm46v", "glm_ocr", "glm5_next")
OTHER_TYPES = (
    *("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "cosmos3_omni"),
    *("exaone4_5", "cohere_compass", "hyperclovax_vision_v2"),
)
# Of REFUSED_TYPES, those that transformers would load with a random layer.
RANDOM_TYPES = (
    *("glmga", "qwen2_vl", "qwen2_5_vl"),
    *("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"),
)
TinyModel = Callable[..., Path]  # what the fixture `tiny_model` is
IMAGE_TOKEN, VIDEO_TOKEN = 1000, 1001
GRID = [[1, 8, 8]]  # 64 patches, which merge to 16 image tokens


def make_config(model_type: str, **sizes: int) -> Any:
    """Return a config; `sizes` are `patch_size` and `temporal_patch_size` of a GLM."""
    if model_type in (*GLM_TYPES, "glmga"):
        return _glm_config(model_type, **sizes)
    assert not sizes, f"the sizes of {model_type} are not to be chosen here"
    parts = {"audio_config": _AUDIO_CONFIG} if model_type.endswith("_thinker") else {}
    return AutoConfig.for_model(
        model_type,
        **parts,
        text_config=_other_text_config(model_type),
        vision_config=_other_vision_config(model_type),
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        vision_start_token_id=1002,
        vision_end_token_id=1003,
    )


def _glm_config(model_type: str, *, patch_size: int = 14, temporal_patch_size: int = 2) -> Any:
    vision = {
        "depth": 2,
        "hidden_size": 128,
        "num_heads": 4,
        "intermediate_size": 256,
        "out_hidden_size": 128,
        "patch_size": patch_size,
        "temporal_patch_size": temporal_patch_size,
        "spatial_merge_size": 2,
        "image_size": 8 * patch_size,
    }
    if model_type == "glm5_next":
        vision["projection_intermediate_size"] = 256
    return AutoConfig.for_model(
        model_type,
        text_config=_next_text_config() if model_type == "glm5_next" else _text_config(model_type),
        vision_config=vision,
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        image_start_token_id=1002,
        image_end_token_id=1003,
    )


_ANY_TEXT_CONFIG = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 1024,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "max_position_embeddings": 2048,
}


def _text_config(model_type: str) -> dict[str, Any]:
    is_ocr = model_type == "glm_ocr"
    return _ANY_TEXT_CONFIG | {
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0 if is_ocr else 0.5,
            "mrope_section": [8, 4, 4] if is_ocr else [4, 2, 2],
        },
    }


def _next_text_config() -> dict[str, Any]:
    # The fourth layer is the first with indexed attention, all before it are linear attention.
    return _ANY_TEXT_CONFIG | {
        "num_hidden_layers": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": 64,
        "kv_lora_rank": 32,
        "v_head_dim": 32,
        "qk_nope_head_dim": 32,
        "index_topk": 32,
        "index_head_dim": 32,
        "index_n_heads": 4,
        "linear_num_heads": 4,
        "linear_head_dim": 32,
    }


# Of the text config of one type, and of no other; a value takes the place of the common one.
_TEXT_OF_TYPE: dict[str, dict[str, Any]] = {
    # The fourth layer of qwen3_5 is the first with full attention.
    "qwen3_5": {"num_hidden_layers": 4},
    "qwen3_5_moe": {"num_hidden_layers": 4},
    "qwen4_exp": {  # the fourth layer is the first with indexed attention
        "num_hidden_layers": 4,
        "shared_expert_intermediate_size": 64,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "hc_lowrank": 16,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 32,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
    },
    "exaone4_5": {"model_type": "exaone4"},
}


_ROTATE_WHOLE_HEADS = (
    "cohere_compass",
    "exaone4_5",
    "qwen2_5_omni_thinker",
    "qwen2_5_vl",
    "qwen2_vl",
)


def _other_text_config(model_type: str) -> dict[str, Any]:
    rotary, sections = (0.5, [4, 2, 2])
    if model_type in _ROTATE_WHOLE_HEADS:
        rotary, sections = (1.0, [8, 4, 4])
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": rotary,
        "mrope_section": sections,
    }
    text: dict[str, Any] = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "moe_intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 1024,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": rope,
    } | _TEXT_OF_TYPE.get(model_type, {})
    if model_type == "hyperclovax_vision_v2":
        del text["rope_parameters"]  # its text model has one axis of positions
    if model_type == "cohere_compass":
        text |= {
            "layer_types": ["full_attention"] * 2,
            "rope_parameters": {"full_attention": rope},
        }
    return text


_AUDIO_CONFIG = {
    "d_model": 64,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 32,
    "output_dim": 128,
    "downsample_hidden_size": 32,
}


def _other_vision_config(model_type: str) -> dict[str, Any]:
    vision = {
        "depth": 2,
        "hidden_size": 128,
        "embed_dim": 128,
        "num_heads": 4,
        "intermediate_size": 256,
        "out_hidden_size": 128,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "fullatt_block_indexes": [0],
    }
    if model_type == "exaone4_5":
        vision["num_key_value_heads"] = 4
    return vision


def save_model(
    folder: Path,
    model_type: str,
    *,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_size: str = "300KB",
    **sizes: int,
) -> Path:
    """Save a random model of this type; `max_shard_size` decides whether it is sharded."""
    model = make_model(model_type, dtype=dtype, **sizes)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return folder


def make_model(model_type: str, *, dtype: torch.dtype = torch.bfloat16, **sizes: int) -> Any:
    """Return a model with random parameters.

    Those of a GLM get noise added: transformers sets some to zeros and ones, which would hide a
    mistake. The other types get none: in some of them a rounding would choose another expert then.
    """
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(make_config(model_type, **sizes)).to(dtype)
    if model_type in GLM_TYPES:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def image_inputs(config: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return what a model takes for one random image between a few tokens of text."""
    vision = config.vision_config
    columns = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([[2, 5, 6, 1002, *[IMAGE_TOKEN] * 16, 1003, 7, 8]])
    return {
        "input_ids": ids,
        "pixel_values": torch.randn(64, columns, generator=generator).to(dtype),
        "image_grid_thw": torch.tensor(GRID),
        "mm_token_type_ids": (ids == IMAGE_TOKEN).long(),
    }
