"""Make a small checkpoint in the shape of GLM-4.5V: its real patch embedding, few other weights."""

from __future__ import annotations

import ctypes
import json
import struct
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch  # noqa: E402

KERNEL = (1536, 3, 2, 14, 14)
CONFIG = {
    "architectures": ["Glm4vMoeForConditionalGeneration"],
    "model_type": "glm4v_moe",
    "image_token_id": 151363,
    "text_config": {"model_type": "glm4v_moe_text", "hidden_size": 4096, "vocab_size": 151552},
    "vision_config": {
        "model_type": "glm4v_moe",
        "depth": 24,
        "hidden_size": 1536,
        "num_heads": 12,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
CARD = (
    "---\nlicense: mit\nlibrary_name: transformers\n---\n# A checkpoint in the shape of GLM-4.5V\n"
)


def save_shard(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write bfloat16 tensors as safetensors do; the library's own function needs numpy."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * 2
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(ctypes.string_at(tensor.data_ptr(), tensor.numel() * 2))


def main(folder: Path, *, shards: int = 4) -> None:
    """Write the checkpoint: the patch embedding stands in the last of `shards` shards."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * 0.02).to(torch.bfloat16)

    weights = [
        {f"model.language_model.layers.{i}.self_attn.o_proj.weight": random(1024, 1024)}
        for i in range(shards)
    ]
    weights[-1] |= {
        "model.visual.patch_embed.proj.weight": random(*KERNEL),
        "model.visual.patch_embed.proj.bias": random(KERNEL[0]),
    }
    weight_map, total = {}, 0
    for number, tensors in enumerate(weights, 1):
        name = f"model-{number:05}-of-{shards:05}.safetensors"
        save_shard(tensors, folder / name)
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (folder / "README.md").write_text(CARD)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
