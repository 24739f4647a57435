"""Print what the headers of a checkpoint say of one tensor, without our own code."""

import sys
import warnings
from pathlib import Path

from safetensors import safe_open

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

folder, name = sys.argv[1:]
for path in sorted(Path(folder).glob("*.safetensors")):
    with safe_open(path, framework="pt") as shard:
        if name in shard.keys():  # noqa: SIM118 - a shard is no dictionary
            tensor = shard.get_slice(name)
            print(f"{path.name}  {name}  {tensor.get_dtype()} {tensor.get_shape()}")
