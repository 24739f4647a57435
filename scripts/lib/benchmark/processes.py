"""Run one command as a process of its own: seconds of wall clock, and peak memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.lib.results import ROOT


@dataclass(frozen=True)
class Run:
    """What a process took; `peak_bytes` is its largest resident set, mapped files included.

    The kernel hands the peak of the parent down to a child, so the parent has to stay small: it
    never imports torch.
    """

    wall_s: float
    peak_bytes: int
    stdout: str


def run(command: Sequence[str]) -> Run:
    """Run a command to its end, at the root of the repository.

    Raises `CalledProcessError` with what it printed if it fails.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        stdout = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output=stdout)
    return Run(wall_s, usage.ru_maxrss * 1024, stdout)  # Linux counts in KiB
