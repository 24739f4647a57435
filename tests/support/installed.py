"""What a test needs of a release that is newer than the lowest one which the package allows.

Each of these skips the test, and says which release it is that lacks something.
"""

from __future__ import annotations

import pytest
from packaging.version import Version

from conv2linear.checkpoint.compatibility import first_release
from conv2linear.checkpoint.model_types import MODEL_TYPES


def need_model_type(model_type: str) -> None:
    """Skip a test of a model type that came later than the installed transformers."""
    import transformers

    first = first_release(model_type)
    if model_type in MODEL_TYPES and Version(transformers.__version__) < Version(first):
        pytest.skip(f"{model_type} is in transformers from {first} on")


def need_compressed_tensors() -> None:
    """Skip a test of a quantised model where torch has too little for compressed-tensors."""
    import torch

    if not hasattr(torch.nn, "Buffer"):
        pytest.skip("compressed-tensors takes torch.nn.Buffer, which torch has from 2.5 on")


def need_accelerator() -> None:
    """Skip a test of an engine where torch is older than any that engines run on."""
    import torch

    if not hasattr(torch, "accelerator"):
        pytest.skip("the engines run on torch.accelerator, which torch has from 2.6 on")
