"""Small adapters whose files are as PEFT writes them, without a model to make them from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

PREFIX = "base_model.model.model."
LAYER = f"{PREFIX}visual.patch_embed.proj"
LINEAR_LAYER = f"{PREFIX}visual.patch_embed.linear_proj"
OTHER = f"{PREFIX}visual.blocks.0.attn.qkv"
RANK, OUTPUTS, KERNEL = 4, 8, (3, 2, 4, 4)
COLUMNS = 96

Shapes = dict[str, tuple[int, ...]]


def conv3d_shapes(rank: int = RANK) -> Shapes:
    """Return the shapes of a LoRA on the patch embedding of a conv3d base, and on another layer."""
    return {
        f"{LAYER}.lora_A.weight": (rank, *KERNEL),
        f"{LAYER}.lora_B.weight": (OUTPUTS, rank, 1, 1, 1),
        **other_shapes(),
    }


def linear_shapes(rank: int = RANK) -> Shapes:
    """Return the shapes of the same LoRA on the linear base."""
    return {
        f"{LINEAR_LAYER}.lora_A.weight": (rank, COLUMNS),
        f"{LINEAR_LAYER}.lora_B.weight": (OUTPUTS, rank),
        **other_shapes(),
    }


def other_shapes() -> Shapes:
    """Return the shapes of a LoRA that spares the patch embedding."""
    return {f"{OTHER}.lora_A.weight": (RANK, OUTPUTS), f"{OTHER}.lora_B.weight": (24, RANK)}


def config_values(**values: Any) -> dict[str, Any]:
    """Return the values of an adapter_config.json of a LoRA."""
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": "org/base",
        "r": RANK,
        "lora_alpha": 8,
        "target_modules": ["qkv", "proj"],
        **values,
    }


def save_adapter(folder: Path, shapes: Shapes | None = None, **values: Any) -> Path:
    """Save an adapter with random tensors of these shapes, and values for its config."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator)
        for name, shape in (conv3d_shapes() if shapes is None else shapes).items()
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config_values(**values), indent=2)
    (folder / "adapter_config.json").write_text(text)
    (folder / "README.md").write_text("---\nbase_model: org/base\n---\n# 适配器\n")
    return folder


def config_of(folder: Path) -> dict[str, Any]:
    """Return the values of an adapter's config."""
    values: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return values
