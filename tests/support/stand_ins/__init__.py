"""What stands in for vLLM and SGLang where they are not installed, as far as a load goes.

Each package has the names that `conv2linear.engines` calls, and does with a folder what the engine
does: build the Conv3d of a patch embedding, ask the plugins, load the tensors with a loader that
insists on equal shapes. The rest of a model is not there. Real engines: `scripts/check_engine`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.installed import need_torch

VERSION = "1.2.3"


def install_stand_ins(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both packages be found in `site`, in this process and in those that it starts."""
    need_torch("2.6", "accelerator", of="each engine")
    here = Path(__file__).parent
    site.mkdir()
    for name in ("vllm", "sglang"):
        shutil.copytree(here / name, site / name)
        metadata = site / f"{name}-{VERSION}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n")
        monkeypatch.delenv(f"{name.upper()}_PLUGINS", raising=False)
    shutil.copy(here / "stand_in_model.py", site)
    monkeypatch.delenv("SGLANG_EXTERNAL_MODEL_PACKAGE", raising=False)
    monkeypatch.syspath_prepend(site)
    search_path = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(search_path))
