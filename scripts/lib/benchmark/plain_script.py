"""Reshape a patch embedding as one would by hand: load every shard, save every shard."""

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file


def main(source: Path, out: Path) -> None:
    """Write a linear copy of a checkpoint, as short as such a script can be."""
    out.mkdir()
    for path in sorted(source.iterdir()):
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            for name in tensors:
                if name.endswith("patch_embed.proj.weight"):
                    tensors[name] = tensors[name].flatten(1)
            save_file(tensors, out / path.name, metadata={"format": "pt"})
        elif path.name == "config.json":
            config = json.loads(path.read_text())
            config["fusion_config"] = {"patch_embeddings": True}
            (out / path.name).write_text(json.dumps(config, indent=2))
        else:
            shutil.copy(path, out / path.name)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
