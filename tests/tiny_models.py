"""Tiny random GLM-V checkpoints, made and saved by transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

GLM_TYPES = ("glm4v", "glm4v_moe", "glm46v", "glm_ocr", "glm5_next")
IMAGE_TOKEN, VIDEO_TOKEN = 1000, 1001
GRID = [[1, 8, 8]]  # 64 patches, which merge to 16 image tokens


def make_config(model_type: str, *, patch_size: int = 14, temporal_patch_size: int = 2) -> Any:
    """Return a config of the least size that the engines accept too."""
    is_ocr = model_type == "glm_ocr"
    text = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "moe_intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 1024,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0 if is_ocr else 0.5,
            "mrope_section": [8, 4, 4] if is_ocr else [4, 2, 2],
        },
    }
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
    return AutoConfig.for_model(
        model_type,
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        image_start_token_id=1002,
        image_end_token_id=1003,
    )


def save_model(
    folder: Path,
    model_type: str,
    *,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_size: str = "300KB",
    **sizes: int,
) -> Path:
    """Save a random model of this type; `max_shard_size` decides whether it is sharded."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(make_config(model_type, **sizes)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # zeros and ones would hide a mistake
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return folder
