"""Where no weight is copied: reflinks on XFS, hard links anywhere, and the real size."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from scripts.lib.benchmark.copying import Copied, table_rows
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
from scripts.lib.benchmark.start_up import Baseline
from scripts.lib.benchmark.turns import Contender, Result, find
from scripts.lib.results import name_file_system, say

_OVERHEAD = "reflink or `--hardlink`, beyond `import torch` and the check, at most"
_SPREAD = "the same, most minus least over 1 to 46 shards of any size"
_DISK = "disk that reflinks take, at most"
_FASTER = "`convert` by reflink, faster than compressed-tensors"


def measure_linking(workdir: Path, scale: Scale, baseline: Baseline, copied: Copied) -> Findings:
    """Measure on XFS where it can be mounted, with hard links elsewhere."""
    try:
        with mounted_xfs(workdir, size_bytes=scale.xfs_bytes) as xfs:
            say("reflinks")
            reflinks, results = _measure_reflinks(xfs, scale, baseline, copied)
            say("1 to 46 shards, reflinks and hard links")
            counted = _measure_shard_counts(
                xfs, scale, baseline, contenders=(CONVERT, HARDLINK), others=results
            )
            say("a checkpoint of real size")
            return join([counted, measure_real_size(xfs, scale, baseline), reflinks])
    except NoXfsError as error:
        reason = str(error)
    say(f"reflinks skipped: {reason}")
    say("1 to 46 shards, hard links")
    counted = _measure_shard_counts(
        workdir, scale, baseline, contenders=(HARDLINK,), others=copied.results
    )
    missing = [Goal(_FASTER, "≥ 20 ×", reason, None), Goal(_DISK, "≤ 10 MB", reason, None)]
    return join([counted, Findings(missing, [Section("Reflinks", f"Skipped: {reason}.")])])


def _measure_reflinks(
    xfs: Path, scale: Scale, baseline: Baseline, copied: Copied
) -> tuple[Findings, list[Result]]:
    """Compare `convert` with `cp` on a file system that shares blocks."""
    source = make_source(xfs, shards=8, total_bytes=8 * scale.shard_bytes)
    results = compare((COPY, CONVERT, HARDLINK), source, runs=scale.runs)
    shutil.rmtree(source)
    title = f"8 shards of {scale.shard_bytes / 1e6:.0f} MB, reflinks (XFS in a loop-mounted image)"
    rows = [
        {**row, "disk_used_bytes": result.disk_bytes}
        for row, result in zip(table_rows(results, baseline), results, strict=True)
    ]
    section = Section(title, f"Medians of {scale.runs} runs; `cp` shares blocks too.", rows)
    other_s = baseline.beyond_torch_s(find(copied.results, COMPRESSED_TENSORS))
    faster = other_s / baseline.beyond_torch_s(find(results, CONVERT))
    most_bytes = max(result.disk_bytes for result in results if result.contender != COPY)
    goals = [
        at_least(_FASTER, 20, faster, unit="×"),
        at_most(_DISK, 10, most_bytes / 1e6, unit="MB"),
    ]
    return Findings(goals, [section], bars_of(title, results)), results


def _measure_shard_counts(
    folder: Path,
    scale: Scale,
    baseline: Baseline,
    *,
    contenders: Sequence[Contender],
    others: Sequence[Result],
) -> Findings:
    """Measure 1 to 46 shards, of one size in total, and of one size each.

    `others` are results of the same contenders elsewhere, for the longest of all.
    """
    total, each = scale.constant_total_bytes, scale.constant_shard_bytes
    sections, results = [], list[Result]()
    for title, sizes in (
        (f"{total / 1e9:.1f} GB in 1 to 46 shards", [total for _ in scale.shard_counts]),
        (f"1 to 46 shards of {each / 1e6:.0f} MB", [each * n for n in scale.shard_counts]),
    ):
        rows = list[Row]()
        for shards, size in zip(scale.shard_counts, sizes, strict=True):
            source = make_source(folder, shards=shards, total_bytes=size)
            taken = compare(contenders, source, runs=scale.runs)
            shutil.rmtree(source)
            results += taken
            counts = {"shards": shards, "size_bytes": size}
            rows += [counts | _overhead_row(result, folder, baseline) for result in taken]
        note = (
            f"Medians of {scale.runs} runs on {name_file_system(folder)}: no weight is copied, so "
            "size must not count."
        )
        sections.append(Section(title, note, rows))
    linked = [*results, *(each for each in others if each.contender in contenders)]
    longest_s = max(baseline.overhead_s(result) for result in linked)
    spread_s = max(_spread_s(results, contender) for contender in contenders)
    goals = [
        at_most(_OVERHEAD, 1, longest_s, unit="s"),
        at_most(_SPREAD, 0.5, spread_s, unit="s"),
    ]
    return Findings(goals, sections)


def _spread_s(results: Sequence[Result], contender: Contender) -> float:
    times = [result.durable_s for result in results if result.contender == contender]
    return max(times) - min(times)


def _overhead_row(result: Result, folder: Path, baseline: Baseline) -> Row:
    is_reflink = result.contender == CONVERT and name_file_system(folder) == "xfs"
    return {
        "command": "convert (reflink)" if is_reflink else result.contender.name,
        **spread_cells(result),
        "beyond_import_torch_and_check_s": baseline.overhead_s(result),
        "peak_beyond_import_torch_bytes": baseline.beyond_torch_bytes(result),
    }
