"""Where every byte is copied, or hard-linked: `convert` against `cp` and other ways."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.benchmark.findings import (
    Findings,
    Goal,
    Row,
    Section,
    at_least,
    at_most,
    bars_of,
)
from scripts.lib.benchmark.outputs import (
    COMPRESSED_TENSORS,
    CONVERT,
    COPY,
    HARDLINK,
    PLAIN,
    compare,
)
from scripts.lib.benchmark.sources import Scale, make_source
from scripts.lib.benchmark.start_up import Baseline
from scripts.lib.benchmark.turns import Result, find
from scripts.lib.results import name_file_system


@dataclass(frozen=True)
class Copied:
    """The results of the contenders, and what they say."""

    results: Sequence[Result]
    findings: Findings


def measure_copying(workdir: Path, scale: Scale, baseline: Baseline) -> Copied:
    """Compare all contenders with the source in the page cache."""
    source = make_source(workdir, shards=8, total_bytes=8 * scale.shard_bytes)
    contenders = (COPY, CONVERT, HARDLINK, PLAIN, COMPRESSED_TENSORS)
    results = compare(contenders, source, runs=scale.runs)
    shutil.rmtree(source)
    title = _title(workdir, scale)
    note = (
        f"Medians of {scale.runs} runs. SOURCE is in the page cache as far as memory allows: it "
        "was read just before."
    )
    section = Section(title, note, table_rows(results, baseline))
    findings = Findings(copy_goals(results, baseline), [section], bars_of(title, results))
    return Copied(results, findings)


def measure_cold_copying(workdir: Path, scale: Scale, baseline: Baseline) -> Findings:
    """Compare `convert` with `cp` where the source has to come from the disk."""
    source = make_source(workdir, shards=8, total_bytes=8 * scale.shard_bytes)
    results = compare((COPY, CONVERT), source, runs=scale.runs, is_cold=True)
    shutil.rmtree(source)
    title = f"{_title(workdir, scale)}, cold"
    note = (
        f"Medians of {scale.runs} runs. SOURCE was dropped from the page cache (posix_fadvise) "
        "before each run; the disk's own cache, and that of a host, are out of reach."
    )
    whole = find(results, CONVERT).durable_s / find(results, COPY).durable_s
    goal = at_most(
        "`convert`, source not in the page cache, of `cp -r` and fsync", 1.25, whole, unit="×"
    )
    section = Section(title, note, table_rows(results, baseline))
    return Findings([goal], [section], bars_of(title, results))


def copy_goals(results: Sequence[Result], baseline: Baseline) -> list[Goal]:
    """Compare what was measured with what is promised of copying."""
    converted, copied = find(results, CONVERT), find(results, COPY)
    other = find(results, COMPRESSED_TENSORS)
    whole = converted.durable_s / copied.durable_s
    beyond_s = baseline.beyond_torch_s(converted)
    faster = baseline.beyond_torch_s(other) / beyond_s
    less = baseline.beyond_torch_bytes(other) / baseline.beyond_torch_bytes(converted)
    beyond = beyond_s / baseline.beyond_torch_s(copied)
    process = "`convert`, the whole process, of `cp -r` and fsync"
    return [
        at_most(process, 1.25, whole, unit="×"),
        at_most("the same, beyond `import torch`", 0.9, beyond, unit="×"),
        at_least("`convert`, faster than compressed-tensors", 3, faster, unit="×"),
        at_least("`convert`, less memory than it", 8, less, unit="×"),
    ]


def table_rows(results: Sequence[Result], baseline: Baseline) -> list[Row]:
    """Return a row for each contender, compared with `cp -r`."""
    copy_s = find(results, COPY).durable_s
    return [
        {
            "command": result.contender.name,
            "of_cp_ratio": result.durable_s / copy_s,
            **baseline.cells(result),
        }
        for result in results
    ]


def _title(folder: Path, scale: Scale) -> str:
    return f"8 shards of {scale.shard_bytes / 1e6:.0f} MB, {name_file_system(folder)}"
