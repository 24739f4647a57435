"""Let an engine load a linear patch embedding of a few numbers, to see whether it does.

Run as a program in a process of its own, with the name of the engine as its argument: it ends with
0 where the layer then has the numbers, and says on stderr why not where it has not. Plugins are
loaded by the engine itself, as when it serves.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from conv2linear.engines.sglang import MODEL_PACKAGE, MODEL_PACKAGE_VARIABLE

_CHANNELS, _OUTPUTS, _KERNEL = 3, 8, (2, 14, 14)


def try_vllm() -> None:
    """Load a linear weight into vLLM's `Conv3dLayer`, with the plugins that are active."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    from vllm.model_executor.layers.conv import Conv3dLayer
    from vllm.model_executor.model_loader.weight_utils import default_weight_loader

    with set_current_vllm_config(VllmConfig()):
        _load_into(Conv3dLayer, default_weight_loader)


def try_sglang() -> None:
    """Load a linear weight into SGLang's `Conv3dLayer`, with the plugins that are active."""
    import importlib

    from sglang.srt.layers.conv import Conv3dLayer
    from sglang.srt.model_loader.weight_utils import default_weight_loader

    if os.environ.get(MODEL_PACKAGE_VARIABLE) == MODEL_PACKAGE:
        importlib.import_module(MODEL_PACKAGE)
    else:
        from sglang.srt.plugins import load_plugins

        load_plugins()
    _load_into(Conv3dLayer, default_weight_loader)


def try_transformers() -> None:
    """Load a tiny linear checkpoint with transformers, and compare its layer with the file."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoModelForImageTextToText

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    text = sizes | {"num_hidden_layers": 1, "num_key_value_heads": 2, "vocab_size": 32}
    vision = sizes | {"num_heads": 2, "out_hidden_size": 32, "depth": 1, "image_size": 28}
    config = AutoConfig.for_model("glm4v", text_config=text, vision_config=vision)
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
        shard = Path(folder, "model.safetensors")
        tensors = load_file(shard)
        name = next(name for name in tensors if name.endswith("patch_embed.proj.weight"))
        tensors[name] = tensors[name].flatten(1)
        save_file(tensors, shard, metadata={"format": "pt"})
        config.fusion_config = {"patch_embeddings": True}
        config.save_pretrained(folder)
        model = AutoModelForImageTextToText.from_pretrained(folder)
    layer = next(m for n, m in model.named_modules() if n.endswith("patch_embed.linear_proj"))
    if not torch.equal(layer.weight.detach(), tensors[name].to(layer.weight.dtype)):
        raise ValueError("the layer has other numbers than the file")


def _load_into(conv3d_layer: Any, default_weight_loader: Any) -> None:
    import torch

    layer = conv3d_layer(_CHANNELS, _OUTPUTS, kernel_size=_KERNEL, stride=_KERNEL, bias=False)
    weight = layer.weight
    linear = torch.randn(_OUTPUTS, weight[0].numel()).to(weight.dtype)
    getattr(weight, "weight_loader", default_weight_loader)(weight, linear)
    if not torch.equal(weight.detach().flatten(1), linear):
        raise ValueError("the layer has other numbers than the weight")


TRIALS = {"transformers": try_transformers, "vllm": try_vllm, "sglang": try_sglang}


def _main(engine: str) -> None:
    try:
        TRIALS[engine]()
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"{type(error).__name__}: {first}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    _main(sys.argv[1])
