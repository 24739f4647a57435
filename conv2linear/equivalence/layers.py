"""The two layers that are compared, on one device."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.patches import SEED

_TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def load_tensor(content: bytes, *, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Make a tensor on the CPU that shares the bytes of a shard; `dtype` is BF16, F16 or F32.

    It must not be written to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says that the bytes are not writable
        return torch.frombuffer(content, dtype=_TORCH_DTYPES[dtype]).reshape(shape)


def load_bias(content: bytes | None, *, dtype: str) -> Tensor | None:
    """Make the bias `[O]` of its bytes, None where there is none."""
    if content is None:
        return None
    return load_tensor(content, dtype=dtype, shape=(-1,))


class Layers:
    """Both layers on one device; each maps patches `[N, K]` to embeddings `[N, O]`."""

    def __init__(self, kernel: Tensor, weight: Tensor, *, bias: Tensor | None) -> None:
        self.kernel, self.weight, self.bias = kernel, weight, bias

    def linear(self, patches: Tensor, *, with_bias: bool = True) -> Tensor:
        """Multiply by the weight `[O, K]`."""
        return functional.linear(patches, self.weight, self.bias if with_bias else None)

    def conv3d(self, patches: Tensor, *, with_bias: bool = True) -> Tensor:
        """Convolve each patch with the kernel `[O, C, T, P, P]`, which it meets once."""
        shape = self.kernel.shape[1:]
        volumes = patches.view(-1, *shape)
        bias = self.bias if with_bias else None
        return functional.conv3d(volumes, self.kernel, bias, stride=shape[1:]).flatten(1)

    def random_patches(self, count: int) -> Tensor:
        """Make patches `[count, K]` of standard normal values, the same each time."""
        generator = torch.Generator().manual_seed(SEED)
        patches = torch.randn(count, self.weight.shape[1], generator=generator)
        return patches.to(self.weight)


def move_to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    """Move a tensor to a device, if there is one."""
    return None if tensor is None else tensor.to(device)
