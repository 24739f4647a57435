"""Tiny random checkpoints of the model types that are no GLM but share its patch embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.support.models import IMAGE_TOKEN, VIDEO_TOKEN

RELATIVES = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "exaone4_5", "cohere_compass")


def save_relative(folder: Path, model_type: str) -> Path:
    """Save a random sharded bfloat16 model of this type."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type,
        text_config=_text_config(model_type),
        vision_config=_vision_config(model_type),
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        vision_start_token_id=1002,
        vision_end_token_id=1003,
    )
    model = AutoModelForImageTextToText.from_config(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="300KB")
    return folder


def _text_config(model_type: str) -> dict[str, Any]:
    rotary, sections = (0.5, [4, 2, 2])
    if model_type in ("exaone4_5", "qwen2_vl"):
        rotary, sections = (1.0, [8, 4, 4])
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": rotary,
        "mrope_section": sections,
    }
    text = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "moe_intermediate_size": 64,
        # The fourth layer of qwen3_5 is the first with full attention.
        "num_hidden_layers": 4 if model_type.startswith("qwen3_5") else 2,
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
    }
    if model_type == "exaone4_5":
        text["model_type"] = "exaone4"
    if model_type == "cohere_compass":
        text |= {
            "layer_types": ["full_attention"] * 2,
            "rope_parameters": {"full_attention": rope},
        }
    return text


def _vision_config(model_type: str) -> dict[str, Any]:
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
