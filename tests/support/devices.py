"""The device that tests marked `cuda` compute on, and what stands in for it in a rehearsal.

With `CUDA_STAND_IN=cpu` in the environment they run on the CPU. That shows that the tests
themselves run, and nothing of CUDA; those that need more of CUDA than a device to compute on are
skipped (`needs_cuda`).
"""

from __future__ import annotations

import os

STAND_IN = os.environ.get("CUDA_STAND_IN")
CUDA_NAME = STAND_IN or "cuda"
