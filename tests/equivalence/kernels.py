"""Random kernels and biases, and the check as the tests call it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from conv2linear.equivalence.check import check_equivalence
from conv2linear.equivalence.outcome import Equivalence
from tests.support.devices import CUDA_NAME

CPU, CUDA = torch.device("cpu"), torch.device(CUDA_NAME)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
SHAPE = (24, 3, 2, 4, 4)  # embed dim, channels, temporal patch, patch, patch
REAL_SHAPE = (1536, 3, 2, 14, 14)  # of GLM-4.5V

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_device = pytest.mark.parametrize(
    "device", [CPU, pytest.param(CUDA, marks=pytest.mark.cuda)], ids=["cpu", "cuda"]
)


def make_kernel(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 0.02).to(dtype)


def make_bias(dtype: torch.dtype = torch.float32, size: int = SHAPE[0]) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(3)).to(dtype)


def check(
    kernel: Tensor, weight: Tensor | None = None, *, bias: Any = "random", device: Any = CPU
) -> Equivalence:
    """Check a kernel against a weight, by default against the kernel itself, flattened."""
    weight = kernel.flatten(1) if weight is None else weight
    bias = make_bias(kernel.dtype, len(kernel)) if isinstance(bias, str) else bias
    return check_equivalence(kernel, weight, bias=bias, kernel_bias=bias, device=device)


def column_of(number: int, shape: tuple[int, ...] = SHAPE) -> str:
    """Say where column `number` is in the kernel; counted as an odometer counts."""
    place = list(itertools.product(*(range(size) for size in shape[1:])))[number]
    return f"kernel[:, {', '.join(map(str, place))}]"


def is_dense(patches: Tensor) -> Tensor:
    """Tell for each patch whether it is neither one-hot nor zero."""
    return (patches != 0).sum(dim=1) > 1
