"""Time a whole vision tower from its first image on, with either patch embedding.

transformers patches a fused model class for the whole process, so each layout is loaded by a
process of its own, as the program `vision_tower FOLDER LAYOUT DEVICE PATCHES`.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.engines.process import run_module
from conv2linear.equivalence.timing import Timing, summarise

_LATER_RUNS = 5
_TIMEOUT_S = 300  # for one layout: a CPU may be slow, but should not keep the user waiting
_VISUAL_PREFIX = r"^(model\.)?visual\."


@dataclass(frozen=True)
class TowerTiming:
    """Seconds to load the tower, to embed the first image after that, and to embed it again.

    Loading counts from the import of transformers on.
    """

    load_s: float
    first_s: float
    later: Timing


@dataclass(frozen=True)
class Tower:
    """The vision tower on one square image of `patches` patches; `skipped` says what is missing."""

    patches: int
    conv3d: TowerTiming | None
    linear: TowerTiming | None
    skipped: str | None


def bench_tower(folder: Path, *, layout: str, device: str, side: int) -> Tower:
    """Time the vision tower of the checkpoint in `folder` on an image of `side`² patches.

    Only the tower's own weights are loaded. A checkpoint that is linear already has no Conv3d to
    compare with. What cannot be measured is skipped, never an error.
    """
    if importlib.util.find_spec("transformers") is None:
        return Tower(side**2, None, None, "transformers is not installed")
    timings: dict[str, TowerTiming | None] = {Layout.CONV3D: None, Layout.LINEAR: None}
    skipped = (
        None if layout == Layout.CONV3D else "the checkpoint is linear: its source has the Conv3d"
    )
    for each in (Layout.CONV3D, Layout.LINEAR) if layout == Layout.CONV3D else (Layout.LINEAR,):
        timings[each], failure = _run(folder, each, device, side)
        skipped = skipped or failure
    return Tower(side**2, timings[Layout.CONV3D], timings[Layout.LINEAR], skipped)


def _run(
    folder: Path, layout: str, device: str, side: int
) -> tuple[TowerTiming | None, str | None]:
    arguments = (str(folder.resolve()), layout, device, str(side))
    try:
        done = run_module(__name__, *arguments, untrusted=folder, timeout_s=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None, f"{layout}: not done after {_TIMEOUT_S} s"
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return None, f"{layout}: {reason}"
    values = json.loads(done.stdout.splitlines()[-1])
    return TowerTiming(values["load_s"], values["first_s"], summarise(values["later_s"])), None


def _main(folder: str, layout: str, device: str, side: int) -> None:
    import torch

    start = time.perf_counter()
    tower = _load(folder, fuse=layout == Layout.LINEAR).to(device)
    load_s = time.perf_counter() - start
    projection = (
        tower.patch_embed.linear_proj if layout == Layout.LINEAR else tower.patch_embed.proj
    )
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(side**2, projection.weight[0].numel(), generator=generator)
    patches = patches.to(device, tower.dtype)
    grid = torch.tensor([[1, side, side]], device=device)
    times = []
    with torch.inference_mode():
        for _ in range(1 + _LATER_RUNS):
            start = time.perf_counter()
            # To the CPU: the embedding is there only when the device has done its work.
            tower(patches, grid_thw=grid).pooler_output.cpu()
            times.append(time.perf_counter() - start)
    print(json.dumps({"load_s": load_s, "first_s": times[0], "later_s": times[1:]}))


def _load(folder: str, *, fuse: bool) -> Any:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tower, info = AutoModel.from_pretrained(
        folder,
        config=config.vision_config,
        dtype="auto",
        trust_remote_code=False,
        use_safetensors=True,
        key_mapping={_VISUAL_PREFIX: ""},
        fusion_config={"patch_embeddings": fuse},
        output_loading_info=True,
    )
    absent = [*info["missing_keys"], *map(str, info["mismatched_keys"])]
    if absent:
        sys.exit(f"the tower does not load: no weight for {min(absent)}")
    return tower.eval()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
