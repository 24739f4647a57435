"""Make the checkpoint that is converted: GLM-4.5V's whole vision tower, and next to no text model.

Run as `python -m scripts.lib.cuda.checkpoint FOLDER DEVICE [DEPTH]`. Without transformers it has no
tower either, only the patch embedding.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from tests.support.checkpoints import GLM_KERNEL, write_checkpoint

_SHARD_SIZE = "500MB"


def make_checkpoint(folder: Path, *, device: str, depth: int | None = None) -> Path:
    """Save a random bfloat16 model; `depth` is the number of the tower's blocks, None for all."""
    if importlib.util.find_spec("transformers") is None:
        return write_checkpoint(folder)
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from tests.support.models import make_config

    config = make_config("glm4v_moe")
    # The size of a token is that of the tower's output; all else of the tower is as it defaults.
    text = config.text_config.to_dict() | {"hidden_size": 4096}
    vision = {} if depth is None else {"depth": depth}
    config = AutoConfig.for_model("glm4v_moe", text_config=text, vision_config=vision)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    kernel = model.model.visual.patch_embed.proj.weight
    assert tuple(kernel.shape) == GLM_KERNEL, kernel.shape
    model.save_pretrained(folder, max_shard_size=_SHARD_SIZE)
    return folder


if __name__ == "__main__":
    make_checkpoint(
        Path(sys.argv[1]),
        device=sys.argv[2],
        depth=int(sys.argv[3]) if len(sys.argv) > 3 else None,
    )
