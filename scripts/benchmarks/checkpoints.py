"""Write checkpoints of real patch-embedding shape and any size, without a model or much memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

KERNEL = (1536, 3, 2, 14, 14)
KERNEL_NAME = "model.visual.patch_embed.proj.weight"
BIAS_NAME = "model.visual.patch_embed.proj.bias"
PATCH_EMBEDDING_BYTES = 2 * 1536 * 1176
CONFIG = {
    "architectures": ["Glm4vMoeForConditionalGeneration"],
    "model_type": "glm4v_moe",
    "text_config": {"model_type": "glm4v_moe_text", "hidden_size": 4096},
    "vision_config": {
        "model_type": "glm4v_moe",
        "depth": 24,
        "hidden_size": 1536,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "in_channels": 3,
    },
}
_ROW = 4096  # values in one row of the other tensors: the hidden size of GLM-4.5V
_TENSOR_ROWS = 4096  # 32 MiB, as its larger weights
_BLOCK = os.urandom(1 << 20)  # written again and again: no file system here merges equal blocks


def make_checkpoint(
    folder: Path, *, shards: int, total_bytes: int, tensors: int | None = None
) -> Path:
    """Write a bf16 checkpoint of `shards` shards; `tensors` is how many there are, if it matters.

    The patch embedding stands in the last shard, as in GLM-4.5V. All is on the disk at the end.
    """
    folder.mkdir()
    weight_map: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        shapes = _other_shapes(number, total_bytes // shards, tensors and tensors // shards)
        if number == shards - 1:
            shapes |= {KERNEL_NAME: KERNEL, BIAS_NAME: KERNEL[:1]}
        _write_shard(folder / name, shapes)
        weight_map |= dict.fromkeys(shapes, name)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def read_shape(folder: Path, name: str) -> tuple[int, ...]:
    """Return the shape of a tensor, as the header of its shard has it."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    with (folder / index["weight_map"][name]).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return tuple(header[name]["shape"])


def _other_shapes(shard: int, size_bytes: int, tensors: int | None) -> dict[str, tuple[int, ...]]:
    prefix = f"model.language_model.layers.{shard}.mlp.experts"
    rows = max(size_bytes // (2 * _ROW), 1)
    count = tensors or -(-rows // _TENSOR_ROWS)
    return {
        f"{prefix}.{number}.down_proj.weight": (max(rows // count, 1), _ROW if rows >= count else 1)
        for number in range(count)
    }


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + _count_bytes(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the data is aligned to 8 bytes
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name, shape in shapes.items():
            is_checked = name in (KERNEL_NAME, BIAS_NAME)
            for block in _finite(shape) if is_checked else _any_bits(shape):
                file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _count_bytes(shape: tuple[int, ...]) -> int:
    size = 2
    for dim in shape:
        size *= dim
    return size


def _any_bits(shape: tuple[int, ...]) -> Iterator[bytes]:
    size = _count_bytes(shape)
    for start in range(0, size, len(_BLOCK)):
        yield _BLOCK[: size - start]


def _finite(shape: tuple[int, ...]) -> Iterator[bytes]:
    """Make bf16 values between 2⁻⁷ and 2⁻⁵ of either sign: exponent byte 0x3c or 0xbc."""
    size = _count_bytes(shape)
    values = bytearray(os.urandom(size))
    values[1::2] = bytes(0x3C | byte & 0x80 for byte in os.urandom(size // 2))
    yield bytes(values)
