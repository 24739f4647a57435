"""A checkpoint with files of all kinds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

MODULE = "model.visual.patch_embed.linear_proj"
NEW_FILES = {"conv2linear.json", "README.md"}
EDITED_FILES = {"config.json", "README.md"}


@pytest.fixture
def rich_checkpoint(checkpoint: Path) -> Path:
    """Return a checkpoint with all that one may hold beside its weights."""
    (checkpoint / "tokenizer.json").write_text('{"版本": "1.0"}')
    (checkpoint / "modeling_glm.py").write_text("raise SystemExit('code of a checkpoint ran')\n")
    (checkpoint / "assets").mkdir()
    (checkpoint / "assets" / "naïve name.bin").write_bytes(os.urandom(5000))
    (checkpoint / "empty").touch()
    (checkpoint / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# 模型\n")
    (checkpoint / ".git").mkdir()
    (checkpoint / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (checkpoint / ".cache" / "huggingface").mkdir(parents=True)
    (checkpoint / ".cache" / "huggingface" / "CACHEDIR.TAG").touch()
    return checkpoint
