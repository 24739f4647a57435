"""Put an adapter onto a checkpoint with stock PEFT in a process of its own; say what came of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from tests.support import forks
from tests.support.models import image_inputs


@dataclass(frozen=True)
class LoadedPair:
    """What PEFT made of a base and an adapter.

    `on_patch_embedding` are the names of the adapter's parameters there, `ignored` the tensors of
    the adapter's file that the model did not take, `warnings` what was said while loading.
    """

    on_patch_embedding: list[str]
    adapted: list[str]
    ignored: list[str]
    warnings: list[str]
    logits: torch.Tensor


def load_pair(base: Path, adapter: Path, result: Path, *, how: str = "peft") -> LoadedPair:
    """Load both in a new process, and show them one image. `result` is a name to use.

    `how` is peft (`PeftModel.from_pretrained`) or transformers (`load_adapter` of the model).
    """
    values = forks.call(_load, base.resolve(), adapter.resolve(), result.resolve(), how)
    return LoadedPair(**values, logits=load_file(result)["logits"])


def _load(base: Path, adapter: Path, result: Path, how: str) -> dict[str, Any]:
    model = AutoModelForImageTextToText.from_pretrained(base, dtype="auto").eval()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if how == "peft":
            model = PeftModel.from_pretrained(model, str(adapter)).eval()
        else:
            model.load_adapter(str(adapter))
    with torch.inference_mode():
        logits = model(**image_inputs(model.config, model.dtype)).logits
    save_file({"logits": logits.contiguous()}, result)
    saved = load_file(adapter / "adapter_model.safetensors")
    taken: dict[str, torch.Tensor] = {}
    if how == "peft":
        taken = get_peft_model_state_dict(model, save_embedding_layers=False)
    names = [name for name, _ in model.named_parameters()]
    return {
        "on_patch_embedding": sorted(n for n in names if "patch_embed" in n and "default" in n),
        "adapted": sorted({n.partition(".lora_A.")[0] for n in names if ".lora_A." in n}),
        "ignored": sorted(
            name
            for name, tensor in saved.items()
            if how == "peft" and not (name in taken and torch.equal(taken[name], tensor))
        ),
        "warnings": [str(each.message) for each in caught],
    }
