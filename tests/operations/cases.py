"""The checkpoints that every conversion is tried on."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.models import GLM_TYPES

CASES: dict[str, dict[str, Any]] = {
    **{model_type: {"model_type": model_type} for model_type in GLM_TYPES},
    "float16": {"model_type": "glm4v", "dtype": torch.float16},
    "float32": {"model_type": "glm4v_moe", "dtype": torch.float32},
    "patch 16, temporal 1": {"model_type": "glm4v", "patch_size": 16, "temporal_patch_size": 1},
    "single file": {"model_type": "glm_ocr", "max_shard_size": "1GB"},
    "compressed-tensors float8": {"model_type": "glm4v", "quantized": "float"},
}
