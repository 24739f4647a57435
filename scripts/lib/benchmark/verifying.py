"""`verify` against reading and hashing the same files with the usual tools."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from conv2linear.parallel import usable_cpus
from scripts.lib.benchmark.beyond import compare_in_turns
from scripts.lib.benchmark.disks import read_into_cache
from scripts.lib.benchmark.findings import (
    Findings,
    Section,
    at_most,
    bars_of,
    spread_cells,
)
from scripts.lib.benchmark.outputs import CONVERT
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.sources import Scale, make_source
from scripts.lib.benchmark.turns import CONV2LINEAR, Contender, Turn

_THREADS = usable_cpus()
HASH_FILES = f'find "$0" -type f -print0 | xargs -0 -n 1 -P {_THREADS} sha256sum'
_SHA256 = Contender(
    f"sha256sum, {_THREADS} at a time", ("sh", "-c", HASH_FILES), imports_torch=False
)
_READ = Contender(
    f"cat of both, {_THREADS} at a time",
    ("sh", "-c", f'find "$0" "$1" -type f -print0 | xargs -0 -n 1 -P {_THREADS} cat >/dev/null'),
    imports_torch=False,
)
_VERIFY = (*CONV2LINEAR, "verify", "--quiet", "--device", "cpu")
_PLAIN = Contender("verify", _VERIFY, imports_torch=True)
_CHECKSUMS = Contender("verify --checksums", (*_VERIFY, "--checksums"), imports_torch=True)
_SOURCE = Contender("verify --source", (*_VERIFY, "--source"), imports_torch=True)


def measure_verifying(workdir: Path, scale: Scale) -> Findings:
    """Verify a checkpoint that lies in the page cache, with hashes and against its source."""
    source = make_source(workdir, shards=8, total_bytes=4 * scale.shard_bytes)
    out = workdir / "out"
    run([*CONVERT.command, str(source), str(out)])
    read_into_cache(out)
    compared = compare_in_turns(
        {
            _PLAIN: _turn(_PLAIN, out),
            _SHA256: _turn(_SHA256, out),
            _CHECKSUMS: _turn(_CHECKSUMS, out),
            _READ: _turn(_READ, source, out),
            _SOURCE: _turn(_SOURCE, source, out),
        },
        runs=scale.runs,
    )
    for folder in (source, out):
        shutil.rmtree(folder)
    title = f"verify, 8 shards of {scale.shard_bytes / 2e6:.0f} MB in the page cache"
    rows = [
        {
            "command": result.contender.name,
            **{key: cell for key, cell in spread_cells(result).items() if key != "process_s"},
            **compared.check_cells(result),
        }
        for result in compared.shown
    ]
    plain_s = compared.find(_PLAIN).durable_s
    ratios = [
        (compared.find(ours).durable_s - plain_s) / compared.find(theirs).durable_s
        for ours, theirs in ((_CHECKSUMS, _SHA256), (_SOURCE, _READ))
    ]
    goals = [
        at_most("what `--checksums` adds to `verify`, of `sha256sum`", 1.1, ratios[0], unit="×"),
        at_most("what `--source` adds to `verify`, of reading both once", 1.3, ratios[1], unit="×"),
    ]
    return Findings(
        goals,
        [Section(title, f"Medians of {scale.runs} runs.", rows)],
        bars_of(title, compared.results),
    )


def _turn(contender: Contender, *folders: Path) -> Callable[[], Turn]:
    return lambda: Turn(run([*contender.command, *map(str, folders)]))
