"""The checkpoints that are converted while they are disturbed, and what folders hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

KERNEL = (64, 3, 2, 14, 14)
CONFIG = {
    "architectures": ["Glm4vMoeForConditionalGeneration"],
    "model_type": "glm4v_moe",
    "text_config": {"model_type": "glm4v_moe_text", "hidden_size": 1024},
    "vision_config": {"model_type": "glm4v_moe", "hidden_size": KERNEL[0], "patch_size": 14},
}

Contents = dict[str, str]


def save_checkpoint(folder: Path, *, seed: int, shards: int = 6) -> Path:
    """Save a checkpoint of `shards` shards of 4 MB; kernel and bias stand in two of them."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * 0.02).to(torch.bfloat16)

    weights = [
        {f"model.language_model.layers.{i}.mlp.up_proj.weight": random(2048, 1024)}
        for i in range(shards)
    ]
    weights[0] |= {"model.visual.patch_embed.proj.bias": random(KERNEL[0])}
    weights[-1] |= {"model.visual.patch_embed.proj.weight": random(*KERNEL)}
    (folder / "assets").mkdir(parents=True)
    weight_map = {}
    for number, tensors in enumerate(weights, 1):
        name = f"model-{number:05}-of-{shards:05}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Checkpoint {seed}\n")
    (folder / "assets" / "vocabulary.txt").write_text("one\ntwo\n" * 1000)
    return folder


def save_old_output(folder: Path) -> Path:
    """Save what stands at OUT before a run with --force: a config and a few dozen small files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "old"}\n')
    for number in range(40):
        (folder / f"old-{number}.bin").write_bytes(bytes([number]) * 4096)
    return folder


def contents(folder: Path) -> Contents:
    """Return the SHA-256 of every file below a folder, by name; empty where there is none."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def state(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Return content, mode and modification time of every file below a folder."""
    return {
        name: (digest, (folder / name).stat().st_mode, (folder / name).stat().st_mtime_ns)
        for name, digest in contents(folder).items()
    }
