"""A model that has only a vision tower's patch embedding, and is loaded as the engines load theirs.

`STAND_IN_FAULT` plants a fault: "forgets" leaves the layer as it was built, "rounds" loads other
numbers, "packs" changes the weight after loading, as SGLang does on a CPU with AMX, and "memory"
finds none.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

Weights = Iterable[tuple[str, torch.Tensor]]


def has_fault(name: str) -> bool:
    """Tell whether this fault is planted."""
    return os.environ.get("STAND_IN_FAULT") == name


class PatchEmbed(nn.Module):
    """The patch embedding of an engine: its layer, and how it cuts rows into patches."""

    def __init__(self, conv3d_layer: Any, config: dict[str, Any]) -> None:
        super().__init__()
        patch, frames = config["patch_size"], config["temporal_patch_size"]
        self.kernel = (frames, patch, patch)
        self.proj = conv3d_layer(
            config["in_channels"],
            config["hidden_size"],
            kernel_size=self.kernel,
            stride=self.kernel,
        )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map rows `[N, K]` to `[N, O]`."""
        output: torch.Tensor = self.proj(rows.view(len(rows), -1, *self.kernel))
        return output.view(len(rows), -1)


class Model(nn.Module):
    """A vision tower of a patch embedding, in the dtype of the config."""

    def __init__(self, conv3d_layer: Any, folder: str) -> None:
        super().__init__()
        config = json.loads(Path(folder, "config.json").read_text())
        self.visual: Any = nn.Module()
        self.visual.patch_embed = PatchEmbed(conv3d_layer, config["vision_config"])
        self.to(getattr(torch, config["dtype"]))

    def load_weights(self, weights: Weights) -> None:
        """Load what belongs to the patch embedding; other names are skipped."""
        if has_fault("memory"):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        parameters = dict(self.named_parameters())
        for name, tensor in weights:
            parameter = parameters.get(name.removeprefix("model."))
            if parameter is None or has_fault("forgets"):
                continue
            if has_fault("rounds"):
                tensor = tensor.to(torch.float8_e4m3fn).to(tensor.dtype)
            getattr(parameter, "weight_loader", load_equal_shape)(parameter, tensor)

    def postprocess(self) -> None:
        """Change what was loaded, where that fault is planted."""
        if has_fault("packs"):
            layer: Any = self.visual.patch_embed.proj
            layer.forward = copy.deepcopy(layer).forward
            packed = layer.weight.detach().flatten(1).t().contiguous()
            layer.weight = nn.Parameter(packed, requires_grad=False)


def load_equal_shape(parameter: torch.Tensor, tensor: torch.Tensor) -> None:
    """Copy a tensor of the parameter's shape, as the default loader of both engines does."""
    assert parameter.shape == tensor.shape, (
        f"Attempted to load weight ({tensor.shape}) into parameter ({parameter.shape})"
    )
    parameter.data.copy_(tensor)


def read_weights(folder: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of all shards in a folder."""
    from safetensors.torch import load_file

    for path in sorted(Path(folder).glob("*.safetensors")):
        yield from load_file(path).items()
