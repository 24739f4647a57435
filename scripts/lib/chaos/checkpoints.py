"""The checkpoints that are converted while they are disturbed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.checkpoints import SMALL_KERNEL, make_config, write_checkpoint

_FILLER_BYTES = 4 << 20


def save_source(folder: Path, *, seed: int, shards: int = 6) -> Path:
    """Save a checkpoint of `shards` shards of 4 MB; weight and bias are in two of them."""
    return write_checkpoint(
        folder,
        shards=shards,
        filler_bytes=_FILLER_BYTES,
        kernel=SMALL_KERNEL,
        bias_shard=0,
        seed=seed,
        extra_files={
            "README.md": f"---\nlicense: mit\n---\n# Checkpoint {seed}\n",
            "assets/vocabulary.txt": "one\ntwo\n" * 1000,
        },
    )


def save_old_output(folder: Path) -> Path:
    """Save what is at OUT before a run with --force: a config and a few dozen small shards."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(make_config()))
    for number in range(40):
        name = f"model-{number + 1:05}-of-00040.safetensors"
        (folder / name).write_bytes(bytes([number]) * 4096)
    return folder
