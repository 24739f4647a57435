"""What is measured, one function for each table of the report."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.benchmark.baseline import CONV2LINEAR, Baseline
from scripts.lib.benchmark.contenders import (
    COMPRESSED_TENSORS,
    CONVERT,
    COPY,
    HARDLINK,
    PLAIN,
    Contender,
    Result,
    compare,
)
from scripts.lib.benchmark.disks import read_into_cache
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.report import Row, Section
from scripts.lib.results import name_file_system
from tests.support.checkpoints import write_checkpoint


@dataclass(frozen=True)
class Scale:
    """How large everything is: the full run, or one to see that all works."""

    name: str
    runs: int
    shard_bytes: int
    shard_counts: tuple[int, ...]
    constant_total_bytes: int
    constant_shard_bytes: int
    xfs_bytes: int


FULL = Scale("full", 5, 500_000_000, (1, 4, 16, 46), 2_000_000_000, 64_000_000, 16 << 30)
QUICK = Scale("quick", 2, 32_000_000, (1, 46), 256_000_000, 4_000_000, 2 << 30)


def measure_copying(
    workdir: Path, scale: Scale, baseline: Baseline
) -> tuple[Section, list[Result]]:
    """Compare all contenders where every byte is copied, or hard-linked."""
    source = _make(workdir, shards=8, total_bytes=8 * scale.shard_bytes)
    contenders = (COPY, CONVERT, HARDLINK, PLAIN, COMPRESSED_TENSORS)
    results = compare(contenders, source, runs=scale.runs)
    shutil.rmtree(source)
    title = f"8 shards of {scale.shard_bytes / 1e6:.0f} MB, {name_file_system(workdir)}"
    note = (
        f"Medians of {scale.runs} runs. SOURCE is in the page cache as far as memory allows: it "
        "was read just before."
    )
    return Section(title, note, _rows(results, baseline)), results


def measure_cold_copying(workdir: Path, scale: Scale, baseline: Baseline) -> Section:
    """Compare `convert` with `cp` where the source has to come from the disk."""
    source = _make(workdir, shards=8, total_bytes=8 * scale.shard_bytes)
    runs = min(scale.runs, 3)
    results = compare((COPY, CONVERT), source, runs=runs, is_cold=True)
    shutil.rmtree(source)
    title = f"8 shards of {scale.shard_bytes / 1e6:.0f} MB, {name_file_system(workdir)}, cold"
    note = (
        f"Medians of {runs} runs. SOURCE was dropped from the page cache (posix_fadvise) before "
        "each run; the disk's own cache, and that of a host, are out of reach."
    )
    return Section(title, note, _rows(results, baseline))


def measure_reflinks(xfs: Path, scale: Scale, baseline: Baseline) -> tuple[Section, list[Result]]:
    """Compare `convert` with `cp` on a file system that shares blocks."""
    source = _make(xfs, shards=8, total_bytes=8 * scale.shard_bytes)
    results = compare((COPY, CONVERT, HARDLINK), source, runs=scale.runs)
    shutil.rmtree(source)
    title = f"8 shards of {scale.shard_bytes / 1e6:.0f} MB, reflinks (XFS in a loop-mounted image)"
    rows = [
        {**row, "disk_used_bytes": result.disk_bytes}
        for row, result in zip(_rows(results, baseline), results, strict=True)
    ]
    return Section(title, f"Medians of {scale.runs} runs; `cp` shares blocks too.", rows), results


def measure_shard_counts(
    folder: Path, scale: Scale, baseline: Baseline, *, contenders: Sequence[Contender]
) -> tuple[list[Section], list[Result]]:
    """Measure 1 to 46 shards, of one size in total, and of one size each."""
    total, each = scale.constant_total_bytes, scale.constant_shard_bytes
    sections, all_results = [], []
    for title, sizes in (
        (f"{total / 1e9:.1f} GB in 1 to 46 shards", [total for _ in scale.shard_counts]),
        (f"1 to 46 shards of {each / 1e6:.0f} MB", [each * n for n in scale.shard_counts]),
    ):
        rows = []
        for shards, size in zip(scale.shard_counts, sizes, strict=True):
            source = _make(folder, shards=shards, total_bytes=size)
            results = compare(contenders, source, runs=scale.runs)
            shutil.rmtree(source)
            all_results += results
            size_cells = {"shards": shards, "size_bytes": size}
            rows += [size_cells | _overhead_row(each, folder, baseline) for each in results]
        note = (
            f"Medians of {scale.runs} runs on {name_file_system(folder)}: no weight is copied, so "
            "size must not count."
        )
        sections.append(Section(title, note, rows))
    return sections, all_results


def measure_many_tensors(workdir: Path, scale: Scale, baseline: Baseline) -> tuple[Section, float]:
    """Measure headers of 100,000 tensors; returns also the seconds of `inspect` on 46 shards."""
    rows, seconds = [], {}
    for shards in (1, 46):
        source = _make(workdir, shards=shards, total_bytes=64_000_000, tensors=100_000)
        command = [*CONV2LINEAR, "inspect", "--json", str(source)]
        inspected = [run(command) for _ in range(2 * scale.runs)]
        seconds[shards] = statistics.median(each.wall_s for each in inspected)
        (converted,) = compare((HARDLINK,), source, runs=scale.runs)
        shutil.rmtree(source)
        rows += [
            {
                "shards": shards,
                "command": "inspect",
                "median_s": seconds[shards],
                "peak_bytes": max(each.peak_bytes for each in inspected),
            },
            {
                "shards": shards,
                "command": HARDLINK.name,
                "median_s": converted.durable_s,
                "peak_bytes": converted.peak_bytes,
            },
        ]
    note = f"Python itself takes {baseline.python_s * 1e3:.0f} ms of it."
    return Section("100,000 tensors", note, rows), seconds[46]


def _make(folder: Path, *, shards: int, total_bytes: int, tensors: int | None = None) -> Path:
    source = write_checkpoint(
        folder / "source",
        shards=shards,
        filler_bytes=total_bytes // shards,
        filler_tensors=tensors and tensors // shards,
        sync=True,
    )
    read_into_cache(source)
    return source


def _rows(results: Sequence[Result], baseline: Baseline) -> list[Row]:
    copy_s = next(result.durable_s for result in results if result.contender is COPY)
    return [
        {
            "command": result.contender.name,
            "process_s": result.wall_s,
            "until_on_disk_s": result.durable_s,
            "fastest_s": min(result.times),
            "slowest_s": max(result.times),
            "beyond_import_torch_s": baseline.beyond_torch_s(result),
            "of_cp_ratio": baseline.beyond_torch_s(result) / copy_s,
            "peak_bytes": result.peak_bytes,
            "peak_beyond_import_torch_bytes": baseline.beyond_torch_bytes(result),
        }
        for result in results
    ]


def _overhead_row(result: Result, folder: Path, baseline: Baseline) -> Row:
    return {
        "command": _name(result, folder),
        "until_on_disk_s": result.durable_s,
        "beyond_import_torch_and_check_s": baseline.overhead_s(result),
        "peak_beyond_import_torch_bytes": baseline.beyond_torch_bytes(result),
    }


def _name(result: Result, folder: Path) -> str:
    if result.contender is CONVERT and name_file_system(folder) == "xfs":
        return "convert (reflink)"
    return result.contender.name
