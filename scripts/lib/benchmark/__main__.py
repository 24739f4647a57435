"""Measure `convert` against other ways to the same result, and compare it with its goals."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.lib.benchmark.copying import measure_cold_copying, measure_copying
from scripts.lib.benchmark.elsewhere import read_results
from scripts.lib.benchmark.findings import Findings, join
from scripts.lib.benchmark.linking import measure_linking
from scripts.lib.benchmark.load import Load, watch
from scripts.lib.benchmark.many_tensors import measure_many_tensors
from scripts.lib.benchmark.memory import measure_memory
from scripts.lib.benchmark.report import write_report
from scripts.lib.benchmark.sources import FULL, QUICK, Scale
from scripts.lib.benchmark.start_up import measure_start_up
from scripts.lib.benchmark.traffic import measure_traffic
from scripts.lib.benchmark.transport import measure_transport
from scripts.lib.benchmark.verifying import measure_verifying
from scripts.lib.results import BUILD, RESULTS, say


def main() -> None:
    """Measure everything and write the report."""
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs")
    parser.add_argument(
        "--runs", type=int, help="of each command that is timed (5; with --quick 2)"
    )
    parser.add_argument(
        "--workdir", type=Path, help="where to write what is measured", default=BUILD
    )
    parser.add_argument("--results", type=Path, help="where to write the report", default=RESULTS)
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    if arguments.runs:
        scale = dataclasses.replace(scale, runs=arguments.runs)
    workdir: Path = arguments.workdir.resolve()
    workdir.mkdir(exist_ok=True)
    needed = max(8 * scale.shard_bytes, 46 * scale.constant_shard_bytes) * 7 // 2
    if shutil.disk_usage(workdir).free < needed:
        parser.error(f"{workdir} has less than {needed / 1e9:.0f} GB free: see --workdir")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no mount behind
    before = watch()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=workdir) as folder:
        try:
            findings = _measure(Path(folder), scale)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error.output}{error}")
    page = write_report(
        arguments.results,
        command=shlex.join(["scripts/benchmark", *sys.argv[1:]]),
        findings=findings,
        load=Load(before, watch()),
    )
    print(page.read_text())
    say(f"written to {os.path.relpath(page)}, with {page.stem}.json, .svg and .png")


def _measure(workdir: Path, scale: Scale) -> Findings:
    say("start-up, check, and the end of a process")
    start_up = measure_start_up(scale.runs)
    say("copying")
    copied, copying = measure_copying(workdir, scale)
    say("copying from a cold source")
    cold = measure_cold_copying(workdir, scale)
    linking = measure_linking(workdir, scale, copied)
    say("peak memory")  # while this process is small: see `Run`
    memory = measure_memory(workdir, scale)
    say("100,000 tensors")
    many = measure_many_tensors(workdir, scale)
    say("verify")
    verifying = measure_verifying(workdir, scale)
    say("from a Hub and to a Hub")
    transport = measure_transport(workdir, scale)
    say("traffic with a Hub")
    traffic = measure_traffic(workdir, xet_mb=scale.xet_mb)
    return join(
        [
            *(copying, cold, linking, memory, start_up, many),
            *(traffic, transport, verifying, read_results(RESULTS)),
        ]
    )


if __name__ == "__main__":
    main()
