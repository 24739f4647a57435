"""Checkpoints in the shape of GLM-4.5V of any size, made without a model.

They have a config.json, an index and shards of bfloat16 tensors, but no model of transformers loads
them: for that see `tests.support.models`. The files are written by hand, so that this module needs
only the standard library, and a checkpoint of any size takes little memory.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

WEIGHT = "model.visual.patch_embed.proj.weight"
BIAS = "model.visual.patch_embed.proj.bias"
INDEX = "model.safetensors.index.json"
MANIFEST = "conv2linear.json"
HOLE = "hole.weight"

GLM_KERNEL = (1536, 3, 2, 14, 14)  # [O, C, T, P, P] of GLM-4.5V
SMALL_KERNEL = (64, 3, 2, 14, 14)
CARD = (
    "---\nlicense: mit\nlibrary_name: transformers\n---\n# A checkpoint in the shape of GLM-4.5V\n"
)

_VALUE_BYTES = 2  # bfloat16
_COLUMNS = 4096  # values in a row of the other tensors: the hidden size of GLM-4.5V
_TENSOR_BYTES = 32 << 20  # as the larger weights of GLM-4.5V have
_BLOCK_BYTES = 1 << 20
_STRIDE_BYTES = 65_538  # where in the block of values the next tensor begins
# Any byte to the high one of a bfloat16 value between 2⁻⁷ and 2⁻⁵, of either sign.
_HIGH_BYTES = bytes(0x3C | byte & 0x80 for byte in range(256))
_NO_FILES: Mapping[str, str | bytes] = MappingProxyType({})


def make_config(kernel: Sequence[int] = GLM_KERNEL) -> dict[str, Any]:
    """Return the values of a config.json for a patch embedding with this kernel."""
    return {
        "architectures": ["Glm4vMoeForConditionalGeneration"],
        "model_type": "glm4v_moe",
        "image_token_id": 151363,
        "text_config": {"model_type": "glm4v_moe_text", "hidden_size": 4096, "vocab_size": 151552},
        "vision_config": {
            "model_type": "glm4v_moe",
            "depth": 24,
            "hidden_size": kernel[0],
            "num_heads": 12,
            "in_channels": kernel[1],
            "temporal_patch_size": kernel[2],
            "patch_size": kernel[3],
            "spatial_merge_size": 2,
        },
    }


def write_checkpoint(
    folder: Path,
    *,
    shards: int = 4,
    filler_bytes: int | Sequence[int] = 2 << 20,
    filler_tensors: int | None = None,
    kernel: Sequence[int] = GLM_KERNEL,
    weight_shard: int = -1,
    bias_shard: int = -1,
    hole_bytes: int = 0,
    is_sparse: bool = False,
    seed: int = 0,
    extra_files: Mapping[str, str | bytes] = _NO_FILES,
    sync: bool = False,
) -> Path:
    """Write a checkpoint to a new folder and return the folder.

    All values are finite. Two checkpoints of the same arguments are equal in every byte; with
    another seed no tensor has the same values.

    Args:
        folder: where to write; its parents are made, it must not exist.
        shards: number of shards, named as transformers names them; there is always an index.
        filler_bytes: size of the tensors beside the patch embedding, in each shard or, as a
            sequence, in one shard after the other.
        filler_tensors: how many tensors share these bytes in each shard. By default as few as
            there can be of at most 32 MiB.
        kernel: shape of the patch embedding's weight, `[O, C, T, P, P]`.
        weight_shard: position of the shard that has the weight, as one indexes a list.
        bias_shard: position of the shard that has the bias.
        hole_bytes: size of one more tensor, `HOLE`, behind the weight in its shard. It is
            all zeros and takes no space on most file systems.
        is_sparse: leave all tensors beside the patch embedding as such holes.
        seed: where the random values start.
        extra_files: text or bytes of more files by their paths in the checkpoint. One called
            `README.md` replaces the model card, one called `config.json` the config.
        sync: return only when everything is on the disk.
    """
    folder.mkdir(parents=True)
    sizes = [filler_bytes] * shards if isinstance(filler_bytes, int) else list(filler_bytes)
    assert len(sizes) == shards
    values = _Values(seed)
    weight_map: dict[str, str] = {}
    total_bytes = 0
    for number, size in enumerate(sizes):
        shapes = _filler_shapes(number, size // _VALUE_BYTES, filler_tensors)
        if number == bias_shard % shards:
            shapes[BIAS] = (kernel[0],)
        if number == weight_shard % shards:
            shapes[WEIGHT] = tuple(kernel)
        hole = hole_bytes if WEIGHT in shapes else 0
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        total_bytes += _write_shard(
            folder / name, shapes, values=values, hole_bytes=hole, is_sparse=is_sparse
        )
        weight_map |= dict.fromkeys([*shapes, *([HOLE] if hole else [])], name)
    files: dict[str, str | bytes] = {
        INDEX: _json({"metadata": {"total_size": total_bytes}, "weight_map": weight_map}),
        "config.json": _json(make_config(kernel)),
        "README.md": CARD,
        **extra_files,
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    if sync:
        _sync(folder)
    return folder


def _sync(folder: Path) -> None:
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _json(values: object) -> str:
    return json.dumps(values, indent=2) + "\n"


def _filler_shapes(shard: int, values: int, tensors: int | None) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of tensors that have this many values together."""
    if tensors is None:
        tensors = math.ceil(values * _VALUE_BYTES / _TENSOR_BYTES)
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(tensors):
        size = values // tensors + (number < values % tensors)
        columns = _COLUMNS if size % _COLUMNS == 0 else 1
        name = f"model.language_model.layers.{shard}.mlp.experts.{number}.down_proj.weight"
        shapes[name] = (size // columns, columns)
    return shapes


def _write_shard(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    *,
    values: _Values,
    hole_bytes: int,
    is_sparse: bool,
) -> int:
    """Write one shard and return the size of its data."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * _VALUE_BYTES
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    if hole_bytes:
        start, end = end, end + hole_bytes
        entries[HOLE] = {"dtype": "U8", "shape": [hole_bytes], "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the data is aligned to 8 bytes
    with path.open("xb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name, shape in shapes.items():
            size = math.prod(shape) * _VALUE_BYTES
            if name in (WEIGHT, BIAS):
                file.writelines(values.fresh(size))
            elif is_sparse:
                file.seek(size, os.SEEK_CUR)
            else:
                file.writelines(values.repeated(size))
        file.truncate(8 + len(header) + end)
    return end


class _Values:
    """Random bfloat16 values, as bytes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._block = self._draw(_BLOCK_BYTES)
        self._number = count()

    def _draw(self, size: int) -> bytes:
        values = bytearray(self._random.randbytes(size))
        values[1::2] = values[1::2].translate(_HIGH_BYTES)
        return bytes(values)

    def fresh(self, size: int) -> Iterator[bytes]:
        """Yield values that appear nowhere else."""
        yield self._draw(size)

    def repeated(self, size: int) -> Iterator[bytes]:
        """Yield one block of values again and again, from another place in it for each tensor."""
        start = next(self._number) * _STRIDE_BYTES % _BLOCK_BYTES
        block = self._block[start:] + self._block[:start]
        for written in range(0, size, _BLOCK_BYTES):
            yield block[: size - written]
