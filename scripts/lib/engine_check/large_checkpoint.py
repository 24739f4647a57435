"""Save a checkpoint with the sizes of GLM-4.5V, whose 216 GB are holes but for the patch embedding.

It takes some megabytes on a disk. What an engine does with a checkpoint of that size, and how long
`verify` takes for it, can be seen without one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.support.checkpoints import BIAS, INDEX, WEIGHT

# As in the config.json of GLM-4.5V.
_TEXT = {
    "hidden_size": 4096,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 46,
    "num_attention_heads": 96,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "n_routed_experts": 128,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "vocab_size": 151552,
    "n_group": 1,
    "topk_group": 1,
    "use_qk_norm": False,
    "attention_bias": True,
    "pad_token_id": 151329,
    "eos_token_id": [151329, 151336, 151338],
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [8, 12, 12],
    },
}
_VISION = {
    "depth": 24,
    "hidden_size": 1536,
    "num_heads": 12,
    "intermediate_size": 10944,
    "out_hidden_size": 4096,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "image_size": 336,
}
_TOKENS = {
    "image_token_id": 151363,
    "video_token_id": 151364,
    "image_start_token_id": 151339,
    "image_end_token_id": 151340,
    "video_start_token_id": 151341,
    "video_end_token_id": 151342,
}
_SHARD_BYTES = 4_700_000_000  # 46 shards
_TABLES = ("embed_tokens.weight", "lm_head.weight")
_LAYER = "model.language_model.layers.1."  # the first with experts


@dataclass(frozen=True)
class Sizes:
    """Sizes of a checkpoint: all tensors, its embedding tables, and one text layer with experts."""

    size_bytes: int
    tables_bytes: int
    layer_bytes: int


def large_sizes() -> Sizes:
    """Return the sizes of the checkpoint that `save_large_checkpoint` saves."""
    sizes = {name: _size_bytes(shape) for name, shape in _shapes(_build()).items()}
    return Sizes(
        sum(sizes.values()),
        sum(size for name, size in sizes.items() if name.endswith(_TABLES)),
        sum(size for name, size in sizes.items() if name.startswith(_LAYER)),
    )


def save_large_checkpoint(folder: Path) -> None:
    """Save the checkpoint to a new folder."""
    model = _build()
    config = model.config
    config.architectures, config.dtype = [type(model).__name__], "bfloat16"
    config.save_pretrained(folder)
    shapes = _shapes(model)
    shards = list(_split(shapes))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        shard = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / shard, {name: shapes[name] for name in names})
        weight_map |= dict.fromkeys(names, shard)
    total = sum(map(_size_bytes, shapes.values()))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _build() -> Any:
    """Build the model without memory for its numbers."""
    config = AutoConfig.for_model("glm4v_moe", text_config=_TEXT, vision_config=_VISION, **_TOKENS)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def _shapes(model: Any) -> dict[str, torch.Size]:
    return dict(_stored(model.state_dict()))


def _stored(tensors: Mapping[str, Any]) -> Iterator[tuple[str, torch.Size]]:
    """Yield what the tensors of a model are on the disk, where each expert has its own."""
    for name, tensor in tensors.items():
        prefix, is_experts, kind = name.rpartition("experts.")
        if not is_experts or kind not in ("gate_up_proj", "down_proj"):
            yield name, tensor.shape
            continue
        experts, rows, columns = tensor.shape
        parts = {"gate_proj": rows // 2, "up_proj": rows // 2}
        for expert in range(experts):
            for part, height in ({kind: rows} if kind == "down_proj" else parts).items():
                yield f"{prefix}experts.{expert}.{part}.weight", torch.Size([height, columns])


def _size_bytes(shape: torch.Size) -> int:
    return math.prod(shape) * torch.bfloat16.itemsize


def _split(shapes: Mapping[str, torch.Size]) -> Iterator[list[str]]:
    """Yield the names of the tensors of each shard."""
    names: list[str] = []
    filled = 0
    for name, shape in shapes.items():
        if names and filled + _size_bytes(shape) > _SHARD_BYTES:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += _size_bytes(shape)
    yield names


def _write_shard(path: Path, shapes: Mapping[str, torch.Size]) -> None:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + _size_bytes(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("xb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        data_start = file.tell()
        for name in {WEIGHT, BIAS} & shapes.keys():
            file.seek(data_start + entries[name]["data_offsets"][0])
            values = torch.randn(shapes[name]).mul(0.02).bfloat16()
            file.write(values.view(torch.int16).numpy().tobytes())
        file.truncate(data_start + end)
