"""A checkpoint with the shards and tensors of GLM-4.5V at its real size, in sparse files."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.lib.benchmark.disks import used_bytes
from scripts.lib.benchmark.findings import Findings, Section, at_most, bars_of, spread_cells
from scripts.lib.benchmark.outputs import CONVERT, HARDLINK, compare
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.sources import Scale, write_source
from scripts.lib.benchmark.turns import CONV2LINEAR, Contender, Result, Turn, take_turns

_SHARDS, _TENSORS = 46, 17_666
_RESTORE = Contender("restore", (*CONV2LINEAR, "restore"), imports_torch=False, syncs=True)


def measure_real_size(xfs: Path, scale: Scale) -> Findings:
    """Convert and restore it, on a file system that shares blocks."""
    source = write_source(
        xfs / "source",
        shards=_SHARDS,
        filler_bytes=scale.real_shard_bytes,
        filler_tensors=_TENSORS // _SHARDS,
        is_sparse=True,
        sync=True,
    )
    size_bytes = sum(path.stat().st_size for path in source.iterdir())
    compared = compare((CONVERT, HARDLINK), source, runs=scale.runs)
    restored = _measure_restore(source, runs=scale.runs)
    results = [*compared.shown, *restored]
    shutil.rmtree(source)
    size = f"{size_bytes / 1e9:.0f} GB in {_SHARDS} shards"
    title = f"{size}, reflinks"
    rows = [
        {
            "command": result.contender.name,
            **spread_cells(result),
            "peak_bytes": result.peak_bytes,
            "disk_used_bytes": result.disk_bytes,
        }
        for result in results
    ]
    note = (
        f"Medians of {scale.runs} runs. {size_bytes:,} bytes in {_SHARDS} shards of "
        f"{_TENSORS // _SHARDS} tensors each, on XFS; all but the patch embedding is a hole in a "
        "sparse file, as the disk here is smaller. Where blocks are shared, none is read."
    )
    longest_s = max(map(compared.beyond_check_s, compared.results))
    promise = f"{size}, beyond `import torch` and the check, at most"
    goal = at_most(promise, 1, longest_s, unit="s")
    return Findings([goal], [Section(title, note, rows)], bars_of(title, results))


def _measure_restore(source: Path, *, runs: int) -> list[Result]:
    out, restored = source.with_name("out"), source.with_name("restored")
    run([*CONVERT.command, str(source), str(out)])

    def take_turn() -> Turn:
        before = used_bytes(source)
        finished = run([*_RESTORE.command, str(out), str(restored)])
        disk_bytes = used_bytes(source) - before
        shutil.rmtree(restored)
        return Turn(finished, disk_bytes=disk_bytes)

    results = take_turns({_RESTORE: take_turn}, runs=runs)
    shutil.rmtree(out)
    return results
