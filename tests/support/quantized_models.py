"""Tiny random checkpoints that are quantised, by the libraries of the methods where they can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStrategy,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file

from tests.support.models import make_model

_BLOCK = 128  # rows and columns that share a scale in fp8 checkpoints


@dataclass(frozen=True)
class Kind:
    """A scheme of compressed-tensors: its format, and the arguments for weights and activations."""

    format: str
    weights: QuantizationArgs
    activations: QuantizationArgs | None = None


def _eight_bits(number: str) -> Kind:
    weights = QuantizationArgs(num_bits=8, type=number, strategy=QuantizationStrategy.CHANNEL)
    activations = QuantizationArgs(
        num_bits=8, type=number, strategy=QuantizationStrategy.TOKEN, dynamic=True
    )
    return Kind(f"{number}-quantized", weights, activations)


# Each output channel has its own weight scale, each token that of its activations, as the published
# FP8 checkpoints have it; four bits have a scale for each 32 values of a row.
KINDS = {
    "float": _eight_bits("float"),
    "int": _eight_bits("int"),
    "int4": Kind(
        "pack-quantized",
        QuantizationArgs(
            num_bits=4, type="int", strategy=QuantizationStrategy.GROUP, group_size=32
        ),
    ),
}


def save_quantized_model(
    folder: Path,
    model_type: str,
    *,
    kind: str = "float",
    max_shard_size: str = "300KB",
    ignore: Sequence[str] = ("lm_head",),
    targets: Sequence[str] = ("Linear",),
) -> Path:
    """Save a model whose linear layers compressed-tensors has quantized, as `quantize` says."""
    model = make_model(model_type)
    compressor = quantize(model, kind, ignore=ignore, targets=targets)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    compressor.update_config(folder)
    return folder


def quantize(
    model: Any,
    kind: str,
    *,
    ignore: Sequence[str] = ("lm_head",),
    targets: Sequence[str] = ("Linear",),
) -> ModelCompressor:
    """Quantize the linear layers of a model, by one of `KINDS`; returns what adds it to its config.

    A Conv3d is not a target, so by default only `lm_head` is ignored.
    """
    scheme = QuantizationScheme(
        targets=list(targets),
        weights=KINDS[kind].weights,
        input_activations=KINDS[kind].activations,
    )
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        format=KINDS[kind].format,
        ignore=list(ignore),
        quantization_status="compressed",
    )
    apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            module.weight_scale.data.copy_(_weight_scale(module.weight.detach(), scheme.weights))
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    return compressor


def _weight_scale(weight: torch.Tensor, arguments: QuantizationArgs) -> torch.Tensor:
    group = arguments.group_size
    values = weight.unflatten(1, (-1, group)) if group else weight
    low, high = values.aminmax(dim=-1, keepdim=not group)
    scale: torch.Tensor = calculate_qparams(low, high, arguments)[0]
    return scale


def save_fp8_model(
    folder: Path, model_type: str = "glm4v", *, skipped: Sequence[str], listed: Sequence[str]
) -> Path:
    """Save a model with the block scales of `quant_method: fp8`, made by hand.

    Linear layers whose name ends with one of `skipped` stay as they are; `listed` is what
    `modules_to_not_convert` says.
    """
    model = make_model(model_type)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        if type(module) is torch.nn.Linear and not name.endswith(tuple(skipped)):
            quantized, scale = _quantize_blocks(module.weight.detach())
            tensors |= {f"{name}.weight": quantized, f"{name}.weight_scale_inv": scale}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {
        "dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [_BLOCK, _BLOCK],
            "modules_to_not_convert": list(listed),
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _quantize_blocks(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight.float(), (0, -columns % _BLOCK, 0, -rows % _BLOCK))
    blocks = padded.unflatten(1, (-1, _BLOCK)).unflatten(0, (-1, _BLOCK))  # [R, b, C, b]
    scale = blocks.abs().amax(dim=(1, 3)) / torch.finfo(torch.float8_e4m3fn).max
    quantized = (blocks / scale[:, None, :, None]).flatten(2).flatten(0, 1)[:rows, :columns]
    return quantized.to(torch.float8_e4m3fn).contiguous(), scale


def save_bitsandbytes_model(
    folder: Path, source: Path, *, bits: int = 4, skipped: Sequence[str] | None = None
) -> Path:
    """Load a checkpoint as transformers quantizes it with bitsandbytes, on the CPU, and save it."""
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    options: dict[str, Any] = {
        f"load_in_{bits}bit": True,
        "llm_int8_skip_modules": None if skipped is None else list(skipped),
    }
    model = AutoModelForImageTextToText.from_pretrained(
        source, quantization_config=BitsAndBytesConfig(**options), device_map="cpu", dtype="auto"
    )
    model.save_pretrained(folder)
    return folder
