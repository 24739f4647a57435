"""Make the patches that both layers are compared and timed on; the same ones each time.

They are standard normal, cut from synthetic images as GLM-V's processors normalise them, and
extreme, as large and as small as the dtype allows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK_PATCHES = 128  # that go through the layers at once
_SEED = 20_20_5  # any fixed number: the same input must give the same report
# Mean and standard deviation of an RGB pixel in GLM-V's image processors (those of CLIP).
_PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
_PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def random_patches(count: int, weight: Tensor) -> Tensor:
    """Make patches `[count, K]` of standard normal values, as the weight `[O, K]` can take them.

    They have its dtype and are on its device.
    """
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randn(count, weight.shape[1], generator=generator).to(weight)


def sample_patches(kernel: Tensor, *, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Make patches `[N, K]` of the kernel's dtype: ordinary (random, of images) and extreme."""
    generator = torch.Generator().manual_seed(_SEED)
    columns = math.prod(kernel.shape[1:])
    normal = torch.randn(256, columns, generator=generator)
    images = _image_patches(tuple(kernel.shape[1:]), generator)
    extremes = torch.cat([normal[:8].sign(), torch.ones(1, columns), -torch.ones(1, columns)])
    # No partial sum may leave the range of the dtype, nor the result.
    row_sums = kernel.flatten(1).abs().sum(dim=1, dtype=torch.float32)
    largest_bias = 0.0 if bias is None else float(bias.abs().max())
    limits = torch.finfo(kernel.dtype)
    headroom = max(limits.max / 4 - largest_bias, 1.0)
    large = min(limits.max / 4, headroom / max(float(row_sums.max()), limits.tiny))
    ordinary = torch.cat([normal, images])
    extreme = torch.cat([extremes * large, extremes * limits.tiny])
    return ordinary.to(kernel.dtype), extreme.to(kernel.dtype)


def _image_patches(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Cut synthetic images, normalised as the processors do, into patches `[N, C·T·P·P]`."""
    channels, frames, patch, _ = shape
    side = 4 * patch
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    gradient = (x + y) / 2
    checker = ((x * 16).floor() + (y * 16).floor()) % 2
    noise = torch.rand(side, side, generator=generator)
    text = ((y * 24).floor() % 3 < 2) * (torch.rand(side, side, generator=generator) < 0.4).float()
    images = torch.stack([gradient, checker, noise, text])[:, None].expand(-1, channels, -1, -1)
    mean = torch.tensor([_PIXEL_MEAN[c % 3] for c in range(channels)]).view(-1, 1, 1)
    std = torch.tensor([_PIXEL_STD[c % 3] for c in range(channels)]).view(-1, 1, 1)
    normalised = (images - mean) / std
    grid = normalised.unfold(2, patch, patch).unfold(3, patch, patch)  # [4, C, 4, 4, P, P]
    still = grid.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)[:, :, None]  # [N, C, 1, P, P]
    return still.expand(-1, -1, frames, -1, -1).flatten(1)
