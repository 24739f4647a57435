"""What an adapter of PEFT is, by its files: small weights that are added to those of a base."""

from __future__ import annotations

from collections.abc import Iterable

from conv2linear.checkpoint.adapter.config import ADAPTER_CONFIG_NAME
from conv2linear.checkpoint.index import INDEX_FILE, SINGLE_FILE

ADAPTER_WEIGHTS_NAME = "adapter_model.safetensors"
PICKLED_WEIGHTS_NAME = "adapter_model.bin"
ADAPTER_MODEL_TYPE = "PEFT adapter"  # what stands in a record in the place of a model type


def is_adapter(files: Iterable[str]) -> bool:
    """Tell, from the names of all files, whether they are an adapter and not a model.

    A model with an adapter's config beside it is a model: it has weights of its own.
    """
    names = set(files)
    return ADAPTER_CONFIG_NAME in names and names.isdisjoint({SINGLE_FILE, INDEX_FILE})
