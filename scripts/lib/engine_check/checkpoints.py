"""Save what a group of starts loads: an original, its linear form, and linear ones with faults."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from scripts.lib.engine_check.cases import LARGE, Group
from scripts.lib.engine_check.large_checkpoint import save_large_checkpoint
from scripts.lib.engine_check.tiny_models import save_servable_model
from tests.support.checkpoints import BIAS, WEIGHT

# transformers would load these broken.
_FOR_ENGINES = ["--for", "vllm,sglang"]
_OPTIONS = {"int": _FOR_ENGINES, "int4": _FOR_ENGINES}


def save_checkpoints(group: Group, work: Path) -> None:
    """Save every checkpoint that the cases of a group name, below `work`."""
    names = {case.checkpoint for case in group.cases}
    original, linear = work / "original", work / "linear"
    save_servable_model(group.model_type, original, seed=0, scheme=group.scheme)
    if "other" in names:
        save_servable_model(group.model_type, work / "other", seed=1, scheme=group.scheme)
    _convert(original, linear, *_OPTIONS.get(group.scheme or "", []))
    _plant_faults(linear, names)
    if LARGE in names:
        save_large_checkpoint(work / "large-original")
        _convert(work / "large-original", work / LARGE, "--hardlink")


def _convert(original: Path, linear: Path, *options: str) -> None:
    program = Path(sys.executable).with_name("conv2linear")
    # stdout is for the table of runs.
    command: list[str | Path] = [program, "convert", "--quiet", original, linear, *options]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _plant_faults(linear: Path, names: Iterable[str]) -> None:
    """Save those of the checkpoints with a fault that are named, beside the linear one."""
    tensors = load_file(linear / "model.safetensors")
    weight = tensors[WEIGHT]
    faults: dict[str, dict[str, torch.Tensor]] = {
        "transposed": {WEIGHT: weight.t()},
        "reversed": {WEIGHT: weight.flip(1)},  # of the right shape, with the same values
        "float8": {WEIGHT: weight.to(torch.float8_e4m3fn)},
        "scaled": {f"{WEIGHT}_scale": torch.ones(len(weight), 1)},
        "fused": {_fused(WEIGHT): weight, _fused(BIAS): tensors[BIAS]},
    }
    left_out = {"fused": (WEIGHT, BIAS)}
    for name in faults.keys() & set(names):
        folder = linear.with_name(name)
        shutil.copytree(linear, folder)
        changed = {key: tensor.contiguous() for key, tensor in faults[name].items()}
        kept = {k: t for k, t in tensors.items() if k not in left_out.get(name, ())}
        shard = folder / "model.safetensors"
        save_file(kept | changed, shard, metadata={"format": "pt"})


def _fused(name: str) -> str:
    """Return what `save_original_format=False` of transformers calls a tensor."""
    return name.replace(".proj.", ".linear_proj.")
