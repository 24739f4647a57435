"""Peak memory of each command, for shards of very different size, and what the fixed part is."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from conv2linear.text import format_bytes
from scripts.lib.benchmark.beyond import IMPORT_TORCH
from scripts.lib.benchmark.findings import Findings, Row, Section, at_most
from scripts.lib.benchmark.hub_process import REPO_ID, serving
from scripts.lib.benchmark.outputs import CONVERT
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.sources import Scale, write_source
from scripts.lib.benchmark.turns import CONV2LINEAR

_LIMIT_MB = 100
_ON_THE_CPU = ("--device", "cpu")
_TORCHLESS = ("restore",)
_PROMISED = ("convert", "verify", "restore")
_WAYS = (("HTTP", False), ("Xet", True))


def measure_memory(workdir: Path, scale: Scale) -> Findings:
    """Run each command once on a checkpoint of one shard, of every size."""
    import_torch_bytes = _peak(*IMPORT_TORCH.command)
    peaks = {format_bytes(size): _measure(workdir, size) for size in scale.memory_shard_bytes}
    peaks[f"{format_bytes(scale.sparse_shard_bytes)}, sparse"] = _measure_sparse(
        workdir, scale.sparse_shard_bytes
    )
    commands = next(iter(peaks.values()))
    rows: list[Row] = [
        {
            "command": command,
            **{f"{size}_bytes": by_command.get(command) for size, by_command in peaks.items()},
        }
        for command in commands
    ]
    beyond = {
        (command, size): peak - (command not in _TORCHLESS) * import_torch_bytes
        for size, by_command in peaks.items()
        for command, peak in by_command.items()
    }
    promised = [each for each in beyond if each[0].startswith(_PROMISED)]
    most = max(promised, key=lambda each: beyond[each])
    spread_bytes = max(
        max(each[command] for each in peaks.values() if command in each)
        - min(each[command] for each in peaks.values() if command in each)
        for command in commands
    )
    goals = [
        at_most(
            f"peak memory beyond `import torch`, most ({most[0]}, {most[1]})",
            _LIMIT_MB,
            beyond[most] / 1e6,
            unit="MB",
        ),
        at_most(
            f"the same command, most minus least over shards of {' to '.join(list(peaks)[::2])}",
            _LIMIT_MB / 4,
            spread_bytes / 1e6,
            unit="MB",
        ),
    ]
    note = (
        f"Peaks with one shard of each size; `import torch` alone has "
        f"{import_torch_bytes / 1e6:.0f} MB. A file of the size in the last column is a "
        "hole but for the patch embedding; it is neither hashed nor sent."
    )
    return Findings(goals, [Section("Peak memory", note, rows), _profile()])


def _measure(workdir: Path, shard_bytes: int) -> dict[str, int]:
    """Return the peak of each command, by its name."""
    source = write_source(workdir / "source", shards=1, filler_bytes=shard_bytes)
    out = source.with_name("out")
    peaks = _measure_without_reading(source)
    verify = (*CONV2LINEAR, "verify", out, *_ON_THE_CPU)
    peaks["verify --source --checksums"] = _peak(*verify, "--source", source, "--checksums")
    for way, has_xet in _WAYS:
        with serving(workdir / "hub") as hub:
            variables = hub.variables(has_xet=has_xet)
            command = [*CONV2LINEAR, "push", str(out), "org/linear"]
            peaks[f"push over {way}"] = run(command, variables=variables).peak_bytes
    with serving(workdir / "hub", source) as hub:
        for way, has_xet in _WAYS:
            shutil.rmtree(out)
            variables = hub.variables(has_xet=has_xet)
            command = [*CONVERT.command, REPO_ID, str(out)]
            peaks[f"convert from a Hub over {way}"] = run(command, variables=variables).peak_bytes
    for folder in (source, out):
        shutil.rmtree(folder)
    return peaks


def _measure_sparse(workdir: Path, shard_bytes: int) -> dict[str, int]:
    """Return the peak of each command with a shard that is a hole but for the weight."""
    source = write_source(workdir / "source", shards=1, hole_bytes=shard_bytes)
    peaks = _measure_without_reading(source)
    for folder in (source, source.with_name("out")):
        shutil.rmtree(folder)
    return peaks


def _measure_without_reading(source: Path) -> dict[str, int]:
    """Return the peak of each command that need not read every byte; OUT is left beside SOURCE."""
    out, restored = source.with_name("out"), source.with_name("restored")
    peaks = {
        "convert": _peak(*CONVERT.command, source, out),
        "verify": _peak(*CONV2LINEAR, "verify", out, *_ON_THE_CPU),
        "restore": _peak(*CONV2LINEAR, "restore", out, restored),
    }
    shutil.rmtree(restored)
    return peaks


def _peak(*command: str | Path) -> int:
    return run([str(each) for each in command]).peak_bytes


def _profile() -> Section:
    """Say what a process has in memory after each step of `convert`."""
    printed = run([sys.executable, "-m", "scripts.lib.benchmark.memory_steps"]).stdout
    steps = json.loads(printed)
    rows = [
        {"after": step, "peak_bytes": peak, "more_bytes": peak - before}
        for (step, peak), before in zip(steps.items(), [0, *steps.values()], strict=False)
    ]
    note = "The largest resident set of one process that takes the steps of `convert` in turn."
    return Section("What the memory consists of", note, rows)
