"""How large everything is, and the checkpoints that are measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lib.benchmark.disks import read_into_cache
from scripts.lib.results import ROOT


@dataclass(frozen=True)
class Scale:
    """How large everything is: the full run, or one to see that all works.

    `runs` is how often each contender takes its turn; sizes are in bytes. `real_shard_bytes` is
    what a shard of the checkpoint of real size has, of which nearly all is a hole.
    """

    name: str
    runs: int
    shard_bytes: int
    shard_counts: tuple[int, ...]
    constant_total_bytes: int
    constant_shard_bytes: int
    xfs_bytes: int
    real_shard_bytes: int
    memory_shard_bytes: tuple[int, ...]
    sparse_shard_bytes: int
    hub_shard_bytes: int
    xet_mb: tuple[int, ...]


FULL = Scale(
    name="full",
    runs=5,
    shard_bytes=500_000_000,
    shard_counts=(1, 4, 16, 46),
    constant_total_bytes=2_000_000_000,
    constant_shard_bytes=64_000_000,
    xfs_bytes=16 << 30,
    real_shard_bytes=4_434_782_609,
    memory_shard_bytes=(32_000_000, 4_000_000_000),
    sparse_shard_bytes=64_000_000_000,
    hub_shard_bytes=250_000_000,
    xet_mb=(250, 1000),
)
QUICK = Scale(
    name="quick",
    runs=2,
    shard_bytes=32_000_000,
    shard_counts=(1, 46),
    constant_total_bytes=256_000_000,
    constant_shard_bytes=4_000_000,
    xfs_bytes=2 << 30,
    real_shard_bytes=443_478_261,
    memory_shard_bytes=(32_000_000, 128_000_000),
    sparse_shard_bytes=1_000_000_000,
    hub_shard_bytes=8_000_000,
    xet_mb=(20,),
)


def write_source(folder: Path, **options: Any) -> Path:
    """Call `write_checkpoint` in a process of its own, so that this one stays small.

    What this process has had in memory counts for every process that it starts.
    """
    command = [sys.executable, "-m", "scripts.lib.benchmark.write_source"]
    subprocess.run([*command, str(folder), json.dumps(options)], cwd=ROOT, check=True)
    return folder


def make_source(folder: Path, *, shards: int, total_bytes: int, tensors: int | None = None) -> Path:
    """Write a checkpoint as `folder`/source, on the disk and in the page cache."""
    source = write_source(
        folder / "source",
        shards=shards,
        filler_bytes=total_bytes // shards,
        filler_tensors=tensors and tensors // shards,
        sync=True,
    )
    read_into_cache(source)
    return source
