"""What an adapter of PEFT is: small weights that are added to those of a base checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

from conv2linear.checkpoint.index import INDEX_FILE, SINGLE_FILE

ADAPTER_CONFIG_NAME = "adapter_config.json"


def is_adapter(files: Iterable[str]) -> bool:
    """Tell, from the names of all files, whether they are an adapter and not a model.

    A model with an adapter's config beside it is a model: it has weights of its own.
    """
    names = set(files)
    return ADAPTER_CONFIG_NAME in names and names.isdisjoint({SINGLE_FILE, INDEX_FILE})
