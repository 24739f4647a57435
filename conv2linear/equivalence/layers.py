"""The two layers that are compared, on one device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Layers:
    """Both layers on one device; each maps patches `[N, K]` to embeddings `[N, O]`.

    `kernel` is `[O, C, T, P, P]`, `weight` is `[O, K]`, and the biases are `[O]`.
    """

    kernel: Tensor
    weight: Tensor
    bias: Tensor | None
    kernel_bias: Tensor | None

    def linear(self, patches: Tensor, *, with_bias: bool = True) -> Tensor:
        """Multiply by the weight `[O, K]`."""
        return functional.linear(patches, self.weight, self.bias if with_bias else None)

    def conv3d(self, patches: Tensor, *, with_bias: bool = True) -> Tensor:
        """Convolve each patch with the kernel `[O, C, T, P, P]`, which it meets once."""
        shape = self.kernel.shape[1:]
        volumes = patches.view(-1, *shape)
        bias = self.kernel_bias if with_bias else None
        return functional.conv3d(volumes, self.kernel, bias, stride=shape[1:]).flatten(1)


def place_layers(layers: Layers, device: torch.device) -> Layers:
    """Move the tensors of both layers to a device; on the CPU nothing is copied."""
    weights = layers.kernel.to(device), layers.weight.to(device)
    biases = (None if b is None else b.to(device) for b in (layers.bias, layers.kernel_bias))
    return Layers(*weights, *biases)
