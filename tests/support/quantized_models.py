"""Tiny random checkpoints that compressed-tensors has quantised."""

from __future__ import annotations

from pathlib import Path

from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStrategy,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams

from tests.support.models import make_model


def save_quantized_model(
    folder: Path, model_type: str, *, kind: str = "float", max_shard_size: str = "300KB"
) -> Path:
    """Save a model whose linear layers compressed-tensors has made 8-bit: `float` or `int`.

    Each output channel has its own weight scale, each token that of its activations, as the
    published FP8 checkpoints have it. A Conv3d is not a target, so only `lm_head` is ignored.
    """
    scheme = QuantizationScheme(
        targets=["Linear"],
        weights=QuantizationArgs(num_bits=8, type=kind, strategy=QuantizationStrategy.CHANNEL),
        input_activations=QuantizationArgs(
            num_bits=8, type=kind, strategy=QuantizationStrategy.TOKEN, dynamic=True
        ),
    )
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        format=f"{kind}-quantized",
        ignore=["lm_head"],
        quantization_status="compressed",
    )
    model = make_model(model_type)
    apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            low, high = module.weight.detach().aminmax(dim=1, keepdim=True)
            scale, _ = calculate_qparams(low, high, scheme.weights)
            module.weight_scale.data.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    compressor.update_config(folder)
    return folder
