"""Ways to a linear checkpoint: each makes a folder OUT of a folder SOURCE."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.lib.benchmark.beyond import Comparison, compare_in_turns
from scripts.lib.benchmark.disks import drop_from_cache, sync, used_bytes
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.turns import CONV2LINEAR, Contender, Turn
from tests.support.checkpoints import GLM_KERNEL, WEIGHT
from tests.support.contents import header_of, shard_with

_CONVERT = (*CONV2LINEAR, "convert", "--quiet", "--device", "cpu")


def _script(name: str, module: str) -> Contender:
    return Contender(name, (sys.executable, "-m", module), imports_torch=True)


CONVERT = Contender("convert", _CONVERT, imports_torch=True, syncs=True)
HARDLINK = Contender(
    "convert --hardlink", (*_CONVERT, "--hardlink"), imports_torch=True, syncs=True
)
COPY = Contender("cp -r", ("cp", "-r"), imports_torch=False)
PLAIN = _script("load_file/save_file", "scripts.lib.benchmark.plain_script")
COMPRESSED_TENSORS = _script(
    "compressed-tensors", "scripts.lib.benchmark.compressed_tensors_script"
)


def compare(
    contenders: Sequence[Contender], source: Path, *, runs: int, is_cold: bool = False
) -> Comparison:
    """Let the contenders convert SOURCE in turns, as `turns_of` gives them."""
    return compare_in_turns(turns_of(contenders, source, is_cold=is_cold), runs=runs)


def turns_of(
    contenders: Sequence[Contender], source: Path, *, is_cold: bool = False
) -> dict[Contender, Callable[[], Turn]]:
    """Return what lets each contender convert SOURCE; OUT is beside it.

    `is_cold` drops SOURCE from the page cache before each turn.
    """
    return {each: _turn(each, source, is_cold=is_cold) for each in contenders}


def _turn(contender: Contender, source: Path, *, is_cold: bool) -> Callable[[], Turn]:
    out = source.with_name("out")

    def take_turn() -> Turn:
        if is_cold:
            drop_from_cache(source)
        before = used_bytes(source)
        finished = run([*contender.command, str(source), str(out)])
        _check_shape(contender, out)
        sync_s = 0.0 if contender.syncs else sync(out)
        disk_bytes = used_bytes(source) - before
        shutil.rmtree(out)
        return Turn(finished, sync_s, disk_bytes)

    return take_turn


def _check_shape(contender: Contender, out: Path) -> None:
    """Stop where a contender did not do what it is measured for."""
    expected = GLM_KERNEL if contender == COPY else (GLM_KERNEL[0], math.prod(GLM_KERNEL[1:]))
    shape = tuple(header_of(shard_with(out))[WEIGHT]["shape"])
    if shape != expected:
        raise RuntimeError(f"{contender.name} has left {WEIGHT} as {shape}")
