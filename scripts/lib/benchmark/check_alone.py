"""Run the equivalence check of a patch embedding of GLM-4.5V's size, and print its seconds."""

import time

import torch

from conv2linear.equivalence.check import check_equivalence
from tests.support.checkpoints import GLM_KERNEL


def main() -> None:
    """Check one random kernel in bfloat16 on the CPU."""
    kernel = (torch.randn(GLM_KERNEL, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    bias = torch.zeros(GLM_KERNEL[0], dtype=torch.bfloat16)
    start = time.perf_counter()
    check = check_equivalence(
        kernel, kernel.flatten(1), bias=bias, kernel_bias=bias, device=torch.device("cpu")
    )
    print(time.perf_counter() - start)
    if check.failure:
        raise SystemExit(check.failure)


if __name__ == "__main__":
    main()
