"""Read what the headers of a checkpoint say of one tensor, without conv2linear's own code."""

from __future__ import annotations

import warnings
from pathlib import Path

from safetensors import safe_open

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")


def describe_tensor(folder: Path, name: str) -> str:
    """Return the shard, the name, the dtype and the shape of a tensor.

    Raises `KeyError` where no shard has it.
    """
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as shard:
            if name in shard.keys():  # noqa: SIM118 - a shard is not a dictionary
                tensor = shard.get_slice(name)
                return f"{path.name}  {name}  {tensor.get_dtype()} {tensor.get_shape()}"
    raise KeyError(name)
