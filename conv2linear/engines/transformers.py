"""Load a linear checkpoint with the installed transformers, and describe the layer that it built.

Run as a program in a process of its own, since transformers patches classes for the whole process:
with the paths of a checkpoint and of its shards as arguments it prints one JSON object. The class
that loads it is one of the auto classes, unless `--model-class` names another. The text
and vision layers are cut to zero, so that only the embeddings of a large checkpoint are read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

AUTO_CLASS = "AutoModelForImageTextToText"
NOT_THE_CHECKPOINT = 3  # exit code: a package is missing, or there is not enough memory


def load_patch_embedding(
    folder: str, shards: Sequence[str], model_class: str = AUTO_CLASS
) -> dict[str, Any]:
    """Load a checkpoint with a class of transformers, and describe its patch embedding.

    Returns `module` (the class of the layer), `is_linear`, and `missing` and `mismatched` (keys of
    patch embeddings). A linear layer also has `dtype`, `shape`, `stored_dtype`, and `values_equal`
    and `outputs_equal`, which compare it with the tensors of the file, cast to the dtype that
    config.json gives the model, as transformers does.
    """
    import torch
    import transformers

    loader = getattr(transformers, model_class)
    # No auto class has one: each takes what the config's model type leads to.
    config_class = getattr(loader, "config_class", transformers.AutoConfig)
    config = _without_layers(config_class.from_pretrained(folder, trust_remote_code=False))
    model, info = loader.from_pretrained(
        folder,
        config=config,
        dtype="auto",
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    modules = model.named_modules()
    module: Any = next(module for name, module in modules if name.endswith("patch_embed"))
    layer = getattr(module, "linear_proj", None)
    result: dict[str, Any] = {
        "module": type(layer).__name__ if layer is not None else type(module.proj).__name__,
        "is_linear": type(layer) is torch.nn.Linear,
        "missing": [key for key in info["missing_keys"] if "patch_embed." in key],
        "mismatched": [str(key) for key in info["mismatched_keys"] if "patch_embed." in str(key)],
    }
    if result["is_linear"] and layer is not None:
        weight, bias = _read_tensors(shards)
        stored_dtype = weight.dtype
        weight = weight.to(layer.weight.dtype)
        bias = None if bias is None else bias.to(layer.weight.dtype)
        patches = torch.randn(64, weight.shape[1], generator=torch.Generator().manual_seed(0))
        patches = patches.to(weight.dtype)
        with torch.inference_mode():
            output = module(patches.to(layer.weight.device)).cpu()
        expected = torch.nn.functional.linear(patches, weight, bias)
        result |= {
            "dtype": str(layer.weight.dtype).removeprefix("torch."),
            "stored_dtype": str(stored_dtype).removeprefix("torch."),
            "shape": list(layer.weight.shape),
            "values_equal": torch.equal(layer.weight.detach().cpu(), weight)
            and (bias is None or torch.equal(layer.bias.detach().cpu(), bias)),
            "outputs_equal": torch.equal(output, expected),
        }
    return result


def _without_layers(config: Any) -> Any:
    """Cut the layers of both towers to zero, and the lists that have one entry for each layer."""
    text = config.get_text_config()
    layers = text.num_hidden_layers
    for key, value in vars(text).items():
        if isinstance(value, list) and len(value) == layers and "token_id" not in key:
            setattr(text, key, [])
    text.num_hidden_layers = 0
    for key in ("depth", "num_hidden_layers"):
        if hasattr(config.vision_config, key):
            setattr(config.vision_config, key, 0)
    for key in ("deepstack_visual_indexes", "fullatt_block_indexes"):
        if hasattr(config.vision_config, key):
            setattr(config.vision_config, key, [])
    return config


def _read_tensors(shards: Sequence[str]) -> tuple[Any, Any]:
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for path in shards:
        with safe_open(path, framework="pt") as shard:
            for key in shard.keys():  # noqa: SIM118 - a shard is not a dictionary
                if "patch_embed." in key and "proj." in key:
                    found[key.rpartition(".")[2]] = shard.get_tensor(key)
    return found["weight"], found.get("bias")


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("shards", nargs="*")
    parser.add_argument("--model-class", default=AUTO_CLASS)
    given = parser.parse_args()
    try:
        print(json.dumps(load_patch_embedding(given.folder, given.shards, given.model_class)))
    except (ImportError, MemoryError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(NOT_THE_CHECKPOINT)


if __name__ == "__main__":
    _main()
