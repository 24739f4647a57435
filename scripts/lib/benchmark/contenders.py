"""What is compared: each makes a folder OUT of a folder SOURCE, in a process of its own."""

from __future__ import annotations

import math
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.benchmark.disks import drop_from_cache, used_bytes
from scripts.lib.benchmark.processes import Run, run
from tests.support.checkpoints import GLM_KERNEL, WEIGHT
from tests.support.contents import header_of, shard_with

_CONVERT = ("conv2linear", "convert", "--quiet", "--device", "cpu")


@dataclass(frozen=True)
class Contender:
    """A command that is given SOURCE and OUT; `syncs` if its files are on the disk at the end."""

    name: str
    command: tuple[str, ...]
    imports_torch: bool
    syncs: bool = False


def _python(name: str, *arguments: str, syncs: bool = False) -> Contender:
    """Return a contender that runs `python -m` with these arguments."""
    return Contender(name, (sys.executable, "-m", *arguments), imports_torch=True, syncs=syncs)


CONVERT = _python("convert", *_CONVERT, syncs=True)
HARDLINK = _python("convert --hardlink", *_CONVERT, "--hardlink", syncs=True)
COPY = Contender("cp -r", ("cp", "-r"), imports_torch=False)
PLAIN = _python("load_file/save_file", "scripts.lib.benchmark.plain_script")
COMPRESSED_TENSORS = _python(
    "compressed-tensors", "scripts.lib.benchmark.compressed_tensors_script"
)


@dataclass(frozen=True)
class Result:
    """Medians of one contender's runs.

    `wall_s` ends with the process, `durable_s` when every byte is on the disk. `times` are the
    durable seconds of each run, `disk_bytes` what the output takes of the disk.
    """

    contender: Contender
    wall_s: float
    durable_s: float
    times: tuple[float, ...]
    peak_bytes: int
    disk_bytes: int


def compare(
    contenders: Sequence[Contender], source: Path, *, runs: int, is_cold: bool = False
) -> list[Result]:
    """Let the contenders take turns, so that what else the machine does hits all of them.

    OUT is beside SOURCE. `is_cold` drops SOURCE from the page cache before each run.
    """
    out = source.with_name("out")
    taken: dict[str, list[tuple[Run, float, int]]] = {each.name: [] for each in contenders}
    for _ in range(runs):
        for contender in contenders:
            if is_cold:
                drop_from_cache(source)
            before = used_bytes(source)
            finished = run([*contender.command, str(source), str(out)])
            _check_shape(contender, out)
            sync_s = 0.0 if contender.syncs else _sync(out)
            taken[contender.name].append((finished, sync_s, used_bytes(source) - before))
            shutil.rmtree(out)
    return [_summarise(contender, taken[contender.name]) for contender in contenders]


def _check_shape(contender: Contender, out: Path) -> None:
    """Stop where a contender did not do what it is measured for."""
    expected = GLM_KERNEL if contender is COPY else (GLM_KERNEL[0], math.prod(GLM_KERNEL[1:]))
    shape = tuple(header_of(shard_with(out))[WEIGHT]["shape"])
    if shape != expected:
        raise RuntimeError(f"{contender.name} has left {WEIGHT} as {shape}")


def _sync(folder: Path) -> float:
    return run(["find", str(folder), "-exec", "sync", "{}", "+"]).wall_s


def _summarise(contender: Contender, taken: list[tuple[Run, float, int]]) -> Result:
    times = tuple(finished.wall_s + sync_s for finished, sync_s, _ in taken)
    return Result(
        contender,
        wall_s=statistics.median(finished.wall_s for finished, _, _ in taken),
        durable_s=statistics.median(times),
        times=times,
        peak_bytes=max(finished.peak_bytes for finished, _, _ in taken),
        disk_bytes=int(statistics.median(disk for _, _, disk in taken)),
    )
