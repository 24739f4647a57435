"""Headers of 100,000 tensors."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from scripts.lib.benchmark.findings import Findings, Section, at_most
from scripts.lib.benchmark.outputs import HARDLINK, turns_of
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.sources import Scale, make_source
from scripts.lib.benchmark.turns import CONV2LINEAR, take_turns


def measure_many_tensors(workdir: Path, scale: Scale) -> Findings:
    """Inspect and convert them, in one shard and in 46."""
    rows, median_s = [], {}
    for shards in (1, 46):
        source = make_source(workdir, shards=shards, total_bytes=64_000_000, tensors=100_000)
        command = [*CONV2LINEAR, "inspect", "--json", str(source)]
        inspected = [run(command) for _ in range(2 * scale.runs)]
        times = [each.wall_s for each in inspected]
        median_s[shards] = statistics.median(times)
        [converted] = take_turns(turns_of([HARDLINK], source), runs=scale.runs)
        shutil.rmtree(source)
        rows += [
            {
                "shards": shards,
                "command": "inspect",
                "median_s": median_s[shards],
                "fastest_s": min(times),
                "slowest_s": max(times),
                "peak_bytes": max(each.peak_bytes for each in inspected),
            },
            {
                "shards": shards,
                "command": HARDLINK.name,
                "median_s": converted.durable_s,
                "fastest_s": min(converted.times),
                "slowest_s": max(converted.times),
                "peak_bytes": converted.peak_bytes,
            },
        ]
    goal = at_most("`inspect`, 100,000 tensors in 46 shards", 1, median_s[46], unit="s")
    note = "Whole processes: those of `convert` import torch too."
    return Findings([goal], [Section("100,000 tensors", note, rows)])
