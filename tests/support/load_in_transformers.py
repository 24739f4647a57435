"""Load a checkpoint with stock transformers in a process of its own, and say what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from tests.support import forks
from tests.support.models import image_inputs


@dataclass(frozen=True)
class Loaded:
    """What transformers made of a checkpoint.

    `projection` is the name of the patch embedding's layer in the model: it ends in `linear_proj`
    or `proj`.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    errors: list[str]
    patch_embedding_class: str
    projection: str
    projection_class: str
    projection_is_the_file: bool
    logits: torch.Tensor


def load(checkpoint: Path, result: Path) -> Loaded:
    """Load a checkpoint in a new process, and show it one image. `result` is a name to use."""
    values = forks.call(_load, checkpoint.resolve(), result.resolve())
    return Loaded(**values, logits=load_file(result)["logits"])


def logits_of(checkpoint: Path) -> torch.Tensor:
    """Load a checkpoint in this process and show it the image; only for one with a Conv3d."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="auto").eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(**image_inputs(model.config, model.dtype)).logits
    return logits


def _load(checkpoint: Path, result: Path) -> dict[str, Any]:
    model, info = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype="auto", output_loading_info=True
    )
    (name,) = (n for n, _ in model.eval().named_modules() if n.endswith("patch_embed"))
    embedding = model.get_submodule(name)
    name += ".linear_proj" if hasattr(embedding, "linear_proj") else ".proj"
    projection = model.get_submodule(name)
    is_the_file = _is_the_file(projection, checkpoint)
    with torch.inference_mode():
        logits = model(**image_inputs(model.config, model.dtype)).logits
    save_file({"logits": logits.contiguous()}, result)
    return {
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "mismatched": sorted(map(str, info["mismatched_keys"])),
        "errors": list(map(str, info["error_msgs"])),
        "patch_embedding_class": type(embedding).__name__,
        "projection": name,
        "projection_class": f"{type(projection).__module__}.{type(projection).__name__}",
        "projection_is_the_file": is_the_file,
    }


def _is_the_file(projection: torch.nn.Module, checkpoint: Path) -> bool:
    tensors: dict[str, torch.Tensor] = {}
    for shard in checkpoint.rglob("*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            names = [name for name in file.keys() if "patch_embed.proj." in name]  # noqa: SIM118
            tensors |= {name.rpartition(".")[2]: file.get_tensor(name) for name in names}
    return (
        all(
            tensor.dtype == getattr(projection, name).dtype
            and torch.equal(tensor, getattr(projection, name))
            for name, tensor in tensors.items()
        )
        and tensors.keys() == dict(projection.named_parameters()).keys()
    )
