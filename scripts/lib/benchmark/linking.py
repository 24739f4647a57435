"""Where no weight is copied: reflinks on XFS, hard links anywhere, and the real size."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from scripts.lib.benchmark.beyond import Comparison
from scripts.lib.benchmark.copying import table_rows
from scripts.lib.benchmark.disks import NoXfsError, mounted_xfs
from scripts.lib.benchmark.findings import (
    Findings,
    Goal,
    Row,
    Section,
    at_least,
    at_most,
    bars_of,
    join,
    spread_cells,
)
from scripts.lib.benchmark.outputs import COMPRESSED_TENSORS, CONVERT, COPY, HARDLINK, compare
from scripts.lib.benchmark.real_size import measure_real_size
from scripts.lib.benchmark.sources import Scale, make_source
from scripts.lib.benchmark.turns import Contender, Result
from scripts.lib.results import name_file_system, say

_OVERHEAD = "reflink or `--hardlink`, beyond `import torch` and the check, at most"
_SPREAD = "the same, most minus least over 1 to 46 shards of any size"
_DISK = "disk that reflinks take, at most"
_FASTER = "`convert` by reflink, faster than compressed-tensors"


def measure_linking(workdir: Path, scale: Scale, copied: Comparison) -> Findings:
    """Measure on XFS where it can be mounted, with hard links elsewhere."""
    try:
        with mounted_xfs(workdir, size_bytes=scale.xfs_bytes) as xfs:
            say("reflinks")
            reflinks, compared = _measure_reflinks(xfs, scale, copied)
            say("1 to 46 shards, reflinks and hard links")
            counted = _measure_shard_counts(
                xfs, scale, contenders=(CONVERT, HARDLINK), other=compared
            )
            say("a checkpoint of real size")
            return join([counted, measure_real_size(xfs, scale), reflinks])
    except NoXfsError as error:
        reason = str(error)
    say(f"reflinks skipped: {reason}")
    say("1 to 46 shards, hard links")
    counted = _measure_shard_counts(workdir, scale, contenders=(HARDLINK,), other=copied)
    missing = [Goal(_FASTER, "≥ 20 ×", reason, None), Goal(_DISK, "≤ 10 MB", reason, None)]
    return join([counted, Findings(missing, [Section("Reflinks", f"Skipped: {reason}.")])])


def _measure_reflinks(xfs: Path, scale: Scale, copied: Comparison) -> tuple[Findings, Comparison]:
    """Compare `convert` with `cp` on a file system that shares blocks."""
    source = make_source(xfs, shards=8, total_bytes=8 * scale.shard_bytes)
    compared = compare((COPY, CONVERT, HARDLINK), source, runs=scale.runs)
    shutil.rmtree(source)
    title = f"8 shards of {scale.shard_bytes / 1e6:.0f} MB, reflinks (XFS in a loop-mounted image)"
    rows = [
        {**row, "disk_used_bytes": result.disk_bytes}
        for row, result in zip(table_rows(compared), compared.shown, strict=True)
    ]
    section = Section(title, f"Medians of {scale.runs} runs; `cp` shares blocks too.", rows)
    other_s = copied.beyond_torch_s(copied.find(COMPRESSED_TENSORS))
    faster = other_s / compared.beyond_torch_s(compared.find(CONVERT))
    ours = [result for result in compared.results if result.contender != COPY]
    most_bytes = max(result.disk_bytes for result in ours)
    goals = [
        at_least(_FASTER, 20, faster, unit="×"),
        at_most(_DISK, 10, most_bytes / 1e6, unit="MB"),
    ]
    return Findings(goals, [section], bars_of(title, compared.results)), compared


def _measure_shard_counts(
    folder: Path,
    scale: Scale,
    *,
    contenders: Sequence[Contender],
    other: Comparison,
) -> Findings:
    """Measure 1 to 46 shards, of one size in total, and of one size each.

    `other` has the same contenders elsewhere, for the longest of all.
    """
    total, each = scale.constant_total_bytes, scale.constant_shard_bytes
    sections, compared = [], list[Comparison]()
    for title, sizes in (
        (f"{total / 1e9:.1f} GB in 1 to 46 shards", [total for _ in scale.shard_counts]),
        (f"1 to 46 shards of {each / 1e6:.0f} MB", [each * n for n in scale.shard_counts]),
    ):
        rows = list[Row]()
        for shards, size in zip(scale.shard_counts, sizes, strict=True):
            source = make_source(folder, shards=shards, total_bytes=size)
            taken = compare(contenders, source, runs=scale.runs)
            shutil.rmtree(source)
            compared.append(taken)
            counts = {"shards": shards, "size_bytes": size}
            rows += [counts | _row(taken, result, folder) for result in taken.shown]
        note = (
            f"Medians of {scale.runs} runs on {name_file_system(folder)}: no weight is copied, so "
            "size must not count."
        )
        sections.append(Section(title, note, rows))
    longest_s = max(max(_beyond_s([*compared, other], each)) for each in contenders)
    beyond = [_beyond_s(compared, each) for each in contenders]
    spread_s = max(max(each) - min(each) for each in beyond)
    goals = [
        at_most(_OVERHEAD, 1, longest_s, unit="s"),
        at_most(_SPREAD, 0.5, spread_s, unit="s"),
    ]
    return Findings(goals, sections)


def _beyond_s(compared: Sequence[Comparison], contender: Contender) -> list[float]:
    return [each.beyond_check_s(each.find(contender)) for each in compared]


def _row(compared: Comparison, result: Result, folder: Path) -> Row:
    is_reflink = result.contender == CONVERT and name_file_system(folder) == "xfs"
    return {
        "command": "convert (reflink)" if is_reflink else result.contender.name,
        **spread_cells(result),
        **compared.check_cells(result),
    }
