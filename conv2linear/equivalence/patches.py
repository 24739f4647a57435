"""Make the patches that both layers are compared and timed on; the same ones each time.

They are standard normal, cut from synthetic images as GLM-V's processors normalise them, and
extreme, as large and as small as the dtype allows. Weights may be as large as their dtype has them:
patches are scaled down until no sum can leave its range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_PATCHES = 128  # that go through the layers at once
_HEADROOM = 4  # times less than what would reach the end of the range
_SEED = 20_20_5  # any fixed number: the same input must give the same report
# Mean and standard deviation of an RGB pixel in GLM-V's image processors (those of CLIP).
_PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
_PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, eq=False)
class Samples:
    """Patches `[N, K]` on the CPU, of the kernel's dtype."""

    ordinary: Tensor
    extreme: Tensor

    @property
    def chunks(self) -> tuple[Tensor, ...]:
        """The patches as they go through a layer; the last chunk has the extreme ones."""
        return (*self.ordinary.split(CHUNK_PATCHES), self.extreme)

    @property
    def together(self) -> Tensor:
        """All patches, the extreme ones last."""
        return torch.cat([self.ordinary, self.extreme])

    def __len__(self) -> int:
        return len(self.ordinary) + len(self.extreme)


def random_patches(count: int, weight: Tensor, *, bias: Tensor | None) -> Tensor:
    """Make patches `[count, K]` of standard normal values, as the weight `[O, K]` can take them.

    They have its dtype and are on its device.
    """
    patches = _random(count, weight.shape[1], torch.Generator().manual_seed(_SEED))
    return _scale_down(patches, find_largest_input(weight, bias=bias)).to(weight)


def sample_patches(kernel: Tensor, *, bias: Tensor | None) -> Samples:
    """Make ordinary patches (random, of images) and extreme ones; kernel and bias on the CPU."""
    generator = torch.Generator().manual_seed(_SEED)
    columns = math.prod(kernel.shape[1:])
    normal = _random(256, columns, generator)
    images = _image_patches(tuple(kernel.shape[1:]), generator)
    ones = torch.ones(1, columns, dtype=torch.float32)
    extremes = torch.cat([normal[:8].sign(), ones, -ones])
    largest = find_largest_input(kernel.flatten(1), bias=bias)
    ordinary = _scale_down(torch.cat([normal, images]), largest)
    smallest = min(largest, torch.finfo(kernel.dtype).tiny)
    extreme = torch.cat([extremes * largest, extremes * smallest])
    return Samples(ordinary.to(kernel.dtype), extreme.to(kernel.dtype))


def find_largest_input(weight: Tensor, *, bias: Tensor | None) -> float:
    """Return how large the values of a patch may be, so that no sum leaves the range of the dtype.

    That holds for each output and for every partial sum of it, in whatever order the products
    `x_k · W[o, k]` and `bias[o]` are added, and however they are rounded: the magnitudes of a
    channel's products add up to a quarter, at most, of the range that the bias leaves. A bias near
    the end of the range leaves nothing; then they stay below a part of its last digit, so that
    adding them does not change it.
    """
    limits = torch.finfo(weight.dtype)
    row_sums = torch.linalg.vector_norm(weight, ord=1, dim=1, dtype=torch.float64)
    room = torch.full_like(row_sums, limits.max)
    if bias is not None:
        room = (room - bias.double().abs()).clamp(min=limits.max * limits.eps / 4)
    largest = room / _HEADROOM / row_sums.clamp(min=torch.finfo(torch.float32).tiny)
    return min(float(largest.min()), limits.max / _HEADROOM)


def _random(count: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, columns, generator=generator, dtype=torch.float32)


def _scale_down(patches: Tensor, largest: float) -> Tensor:
    """Scale each patch whose values are larger than `largest`; patches that fit are not changed."""
    peaks = patches.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(patches.dtype).tiny)
    return patches * (largest / peaks).clamp(max=1)


def _image_patches(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Cut synthetic images, normalised as the processors do, into patches `[N, C·T·P·P]`."""
    channels, frames, patch, _ = shape
    side = 4 * patch
    line = torch.linspace(0, 1, side, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    gradient = (x + y) / 2
    checker = ((x * 16).floor() + (y * 16).floor()) % 2
    noise = torch.rand(side, side, generator=generator, dtype=torch.float32)
    ink = torch.rand(side, side, generator=generator, dtype=torch.float32) < 0.4
    text = ((y * 24).floor() % 3 < 2) * ink.float()
    images = torch.stack([gradient, checker, noise, text])[:, None].expand(-1, channels, -1, -1)
    normalised = (images - _per_channel(_PIXEL_MEAN, channels)) / _per_channel(_PIXEL_STD, channels)
    grid = normalised.unfold(2, patch, patch).unfold(3, patch, patch)  # [4, C, 4, 4, P, P]
    still = grid.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)[:, :, None]  # [N, C, 1, P, P]
    return still.expand(-1, -1, frames, -1, -1).flatten(1)


def _per_channel(values: tuple[float, ...], channels: int) -> Tensor:
    repeated = [values[channel % len(values)] for channel in range(channels)]
    return torch.tensor(repeated, dtype=torch.float32).view(-1, 1, 1)
