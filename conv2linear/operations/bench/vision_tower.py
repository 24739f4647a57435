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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.engines.process import run_module
from conv2linear.equivalence.timing import Timing, summarise
from conv2linear.operations.bench.inputs import BenchLimits
from conv2linear.progress import NoProgress, Progress

_LATER_RUNS = 5
_LATER_BUDGET_S = 5.0  # in one process
_TIMEOUT_S = 300  # for one process: a CPU may be slow, but should not keep the user waiting
_VISUAL_PREFIX = r"^(model\.)?(visual|vision_model)\."  # as checkpoints name the tower, if at all


@dataclass(frozen=True)
class TowerTiming:
    """Seconds to load the tower, to embed the first image after that, and to embed it again.

    Loading counts from the import of transformers on, until the weights are on the device. `load`
    and `first` have a run for each process that was started.
    """

    load: Timing
    first: Timing
    later: Timing


@dataclass(frozen=True)
class Tower:
    """The vision tower on one square image of `patches` patches; `skipped` says what is missing."""

    patches: int
    conv3d: TowerTiming | None
    linear: TowerTiming | None
    skipped: str | None


@dataclass(frozen=True)
class _Start:
    """What one process measured, in seconds."""

    load_s: float
    first_s: float
    later_s: list[float]


class _NotMeasuredError(Exception):
    """A tower could not be measured; the message says why."""


def bench_tower(
    folder: Path,
    *,
    layout: str,
    device: str,
    limits: BenchLimits,
    progress: Progress | None = None,
) -> Tower:
    """Time the vision tower of the checkpoint in `folder` on a square image.

    Only the tower's own weights are loaded. A checkpoint that is linear already has no Conv3d to
    compare with. What cannot be measured is skipped, never an error. The layouts take turns, so
    that what slows the machine down meanwhile slows both.
    """
    side = limits.tower_side or 0
    if importlib.util.find_spec("transformers") is None:
        return Tower(side**2, None, None, "transformers is not installed")
    skipped = (
        None if layout == Layout.CONV3D else "the checkpoint is linear: its source has the Conv3d"
    )
    starts: dict[str, list[_Start]] = {Layout.CONV3D: [], Layout.LINEAR: []}
    waiting = [Layout.CONV3D, Layout.LINEAR] if layout == Layout.CONV3D else [Layout.LINEAR]
    progress = progress or NoProgress()
    begun, left = time.perf_counter(), limits.tower_starts * len(waiting)
    with progress.beside("measure the vision tower", left, "starts") as on_starts:
        for number in range(1, limits.tower_starts + 1):
            for each in tuple(waiting):
                try:
                    starts[each].append(_start(folder, each, device=device, side=side))
                except _NotMeasuredError as error:
                    skipped = skipped or f"{each}: {error}"
                    waiting.remove(each)
                left -= 1
                on_starts(1)
            spent_s = time.perf_counter() - begun
            if spent_s * (number + 1) / number > limits.tower_budget_s:
                break
        on_starts(left)  # those that there is no time for
    conv3d, linear = (_summarise(starts[each]) for each in (Layout.CONV3D, Layout.LINEAR))
    return Tower(side**2, conv3d, linear, skipped)


def _summarise(starts: Sequence[_Start]) -> TowerTiming | None:
    if not starts:
        return None
    return TowerTiming(
        load=summarise([start.load_s for start in starts]),
        first=summarise([start.first_s for start in starts]),
        later=summarise([seconds for start in starts for seconds in start.later_s]),
    )


def _start(folder: Path, layout: str, *, device: str, side: int) -> _Start:
    """Load and time one layout in a process; raises `_NotMeasuredError` where that fails."""
    arguments = (str(folder.resolve()), layout, device, str(side))
    try:
        done = run_module(__name__, *arguments, untrusted=folder, timeout_s=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise _NotMeasuredError(f"not done after {_TIMEOUT_S} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise _NotMeasuredError(lines[-1])
    return _Start(**json.loads(done.stdout.splitlines()[-1]))


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
    times: list[float] = []
    with torch.inference_mode():
        while len(times) < 2 or (len(times) <= _LATER_RUNS and sum(times[1:]) < _LATER_BUDGET_S):
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
