"""Where every byte is copied, or hard-linked: `convert` against `cp` and other ways."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.lib.benchmark.beyond import Comparison
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
from scripts.lib.results import name_file_system


def measure_copying(workdir: Path, scale: Scale) -> tuple[Comparison, Findings]:
    """Compare all contenders with the source in the page cache, and say what that says."""
    source = make_source(workdir, shards=8, total_bytes=8 * scale.shard_bytes)
    contenders = (COPY, CONVERT, HARDLINK, PLAIN, COMPRESSED_TENSORS)
    compared = compare(contenders, source, runs=scale.runs)
    shutil.rmtree(source)
    title = _title(workdir, scale)
    note = (
        f"Medians of {scale.runs} runs. SOURCE is in the page cache as far as memory allows: it "
        "was read just before."
    )
    section = Section(title, note, table_rows(compared))
    bars = bars_of(title, compared.results)
    return compared, Findings(copy_goals(compared), [section], bars)


def measure_cold_copying(workdir: Path, scale: Scale) -> Findings:
    """Compare `convert` with `cp` where the source has to come from the disk."""
    source = make_source(workdir, shards=8, total_bytes=8 * scale.shard_bytes)
    compared = compare((COPY, CONVERT), source, runs=scale.runs, is_cold=True)
    shutil.rmtree(source)
    title = f"{_title(workdir, scale)}, cold"
    note = (
        f"Medians of {scale.runs} runs. SOURCE was dropped from the page cache (posix_fadvise) "
        "before each run; the disk's own cache, and that of a host, are out of reach."
    )
    whole = compared.find(CONVERT).durable_s / compared.find(COPY).durable_s
    goal = at_most(
        "`convert`, source not in the page cache, of `cp -r` and fsync", 1.25, whole, unit="×"
    )
    section = Section(title, note, table_rows(compared))
    return Findings([goal], [section], bars_of(title, compared.results))


def copy_goals(compared: Comparison) -> list[Goal]:
    """Compare what was measured with what is promised of copying."""
    converted, copied = compared.find(CONVERT), compared.find(COPY)
    other = compared.find(COMPRESSED_TENSORS)
    whole = converted.durable_s / copied.durable_s
    beyond_s = compared.beyond_torch_s(converted)
    faster = compared.beyond_torch_s(other) / beyond_s
    less = compared.beyond_torch_bytes(other) / compared.beyond_torch_bytes(converted)
    beyond = beyond_s / compared.beyond_torch_s(copied)
    process = "`convert`, the whole process, of `cp -r` and fsync"
    return [
        at_most(process, 1.25, whole, unit="×"),
        at_most("the same, beyond `import torch`", 0.9, beyond, unit="×"),
        at_least("`convert`, faster than compressed-tensors", 3, faster, unit="×"),
        at_least("`convert`, less memory than it", 8, less, unit="×"),
    ]


def table_rows(compared: Comparison) -> list[Row]:
    """Return a row for each contender, compared with `cp -r`."""
    copy_s = compared.find(COPY).durable_s
    return [
        {
            "command": result.contender.name,
            "of_cp_ratio": result.durable_s / copy_s,
            **compared.cells(result),
        }
        for result in compared.shown
    ]


def _title(folder: Path, scale: Scale) -> str:
    return f"8 shards of {scale.shard_bytes / 1e6:.0f} MB, {name_file_system(folder)}"
