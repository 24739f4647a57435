"""A tiny checkpoint in memory, and inputs near enough to right ones that a fuzzer gets far."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from conv2linear import convert
from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.record.manifest import MANIFEST_NAME
from tests.support.checkpoints import write_checkpoint
from tests.support.contents import read_files

FILLER = "model.language_model.layers.0.mlp.experts.0.down_proj.weight"
CONFIG: dict[str, Any] = {
    "model_type": "glm4v",
    "vision_config": {
        "hidden_size": 2,
        "in_channels": 1,
        "temporal_patch_size": 1,
        "patch_size": 2,
    },
}


def _conv3d_files() -> dict[str, bytes]:
    """Return the files of a checkpoint of two shards; there are 8 bytes beside the embedding."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_checkpoint(
            Path(name, "source"),
            shards=2,
            filler_bytes=(8, 0),
            kernel=(2, 1, 1, 2, 2),
            bias_shard=0,
            extra_files={CONFIG_NAME: json.dumps(CONFIG, indent=2)},
        )
        (folder / "README.md").unlink()
        return read_files(folder)


SHARDS = _conv3d_files()


@cache
def linear_files() -> dict[str, bytes]:
    """Convert the checkpoint once and return the files that came of it."""
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name, "source"), Path(name, "linear")
        source.mkdir()
        for file, content in SHARDS.items():
            (source / file).write_bytes(content)
        convert(source, out, device="cpu")
        return read_files(out)


def linear_checkpoint(folder: Path) -> Path:
    """Write the converted checkpoint to a new folder."""
    folder.mkdir()
    for name, content in linear_files().items():
        (folder / name).write_bytes(content)
    return folder


def samples(target: str) -> list[bytes]:
    """Return what a target is fed with first: right inputs, and known kinds of wrong ones."""
    makers: dict[str, Callable[[], list[bytes]]] = {
        "header": _headers,
        "index": lambda: [SHARDS[INDEX_FILE], b'{"weight_map":{"a":"../a"}}', b'{"weight_map":{}}'],
        "config": _configs,
        "manifest": lambda: [linear_files()[MANIFEST_NAME]],
    }
    return makers[target]()


def _headers() -> list[bytes]:
    files = [content for name, content in SHARDS.items() if name.endswith(".safetensors")]
    framed = [
        b"\x04" + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"\x04" + b'{"\\u0061\\ud83d\\ude42":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"\x04" + b'{"a":["F32",[1],[0,4]]}',
        b"\x00" + b'{"a":{"dtype":"F4","shape":[0,9],"data_offsets":[0,0],"x":[[[[1e5]]]]}}',
        b"\x08"
        + b'{"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]},'
        + b'"a":{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}}  ',
        b"\x00" + b'{"__metadata__":{"a":"b"}}',
    ]
    return files + framed


def _configs() -> list[bytes]:
    quantized: list[dict[str, Any]] = [
        {"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}},
            "ignore": ["lm_head", "re:.*patch_embed.*"],
        },
    ]
    configs = [CONFIG, CONFIG | {"fusion_config": {"x": 1}}]
    configs += [CONFIG | {"quantization_config": q} for q in quantized]
    configs += [CONFIG | {"text_config": {"quantization_config": q}} for q in quantized]
    texts = [json.dumps(config, indent=indent) for config in configs for indent in (None, 2)]
    return [text.encode() for text in texts]
