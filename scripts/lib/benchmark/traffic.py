"""How many bytes go between a Hub and each command; see `scripts.lib.hub_traffic`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.lib.benchmark.findings import Findings, Goal, Section, at_most
from scripts.lib.benchmark.processes import run
from tests.support.checkpoints import GLM_KERNEL

_MB = 1e6
_SMALL_MB = 1.0  # for headers, the small files, and the questions to the Hub
_EMBEDDING_MB = 2 * GLM_KERNEL[0] * (3 * 2 * 14 * 14 + 1) / _MB


def measure_traffic(workdir: Path, *, xet_mb: Sequence[int]) -> Findings:
    """Run the commands against a Hub that counts, in a process of their own."""
    results = workdir / "traffic"
    sizes = [str(size) for size in xet_mb]
    command = ["scripts.lib.hub_traffic", "--results", str(results), "--xet-mb", *sizes]
    run([sys.executable, "-m", *command])
    found = json.loads((results / "hub_traffic.json").read_text())
    size = f"46 shards, {found['size_bytes'] / _MB:.0f} MB"
    sections = [
        Section(f"Traffic with a Hub, {size}", "Bytes that the Hub counted.", found["commands"]),
        Section(
            "A push over Xet",
            "What the Hub stores more after the push of a converted shard whose source it has, "
            "from a machine that has uploaded nothing before.",
            found["xet"],
        ),
    ]
    return Findings(_goals(found), sections)


def _goals(found: dict[str, Any]) -> list[Goal]:
    down_mb = {row["command"]: row["down_bytes"] / _MB for row in found["commands"]}
    size_mb, shard_mb = found["size_bytes"] / _MB, found["shard_bytes"] / _MB
    of = f"of {size_mb:.0f} MB on the Hub"
    most_new = max(found["xet"], key=lambda row: row["added_to_its_storage_bytes"])
    shard = f"a shard of {most_new['shard_bytes'] / _MB:.0f} MB"
    return [
        at_most(f"`inspect` {of}, read", _SMALL_MB, down_mb["inspect"], unit="MB"),
        at_most(
            f"`convert --changed-only` {of}, read (one shard and headers)",
            round(shard_mb + _SMALL_MB, 1),
            down_mb["convert --changed-only"],
            unit="MB",
        ),
        at_most(
            f"`convert` {of}, read (each byte once)",
            round(size_mb + _SMALL_MB, 1),
            down_mb["convert"],
            unit="MB",
        ),
        at_most(
            f"`verify --source` from Hub to Hub {of}, read (of both the one shard that differs)",
            round(2 * (shard_mb + 2 * _EMBEDDING_MB), 1),
            down_mb["verify --source, from Hub to Hub"],
            unit="MB",
        ),
        at_most(
            f"`push` of {shard} over Xet, added to the Hub's storage",
            0.3,
            most_new["added_to_its_storage_bytes"] / _MB,
            unit="MB",
        ),
    ]
