"""Run one command as a process of its own: seconds of wall clock, and peak memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.lib.results import ROOT

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Run:
    """What a process took.

    `end_s` is what it still ran after the last thing that it printed (all of it, where it printed
    nothing); `peak_bytes` is its largest resident set, mapped files included.

    The kernel hands the peak of the parent down to a child, so the parent has to stay small: it
    never imports torch.
    """

    wall_s: float
    end_s: float
    peak_bytes: int
    stdout: str


def run(command: Sequence[str], *, variables: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end, at the root of the repository, with `variables` set for it.

    Raises `CalledProcessError` with what it printed if it fails.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout
        printed, last_s = bytearray(), start
        while chunk := os.read(process.stdout.fileno(), _CHUNK_BYTES):
            printed += chunk
            last_s = time.perf_counter()
        _, status, usage = os.wait4(process.pid, 0)
        end = time.perf_counter()
        process.returncode = os.waitstatus_to_exitcode(status)
    stdout = printed.decode(errors="replace")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output=stdout)
    return Run(end - start, end - last_s, usage.ru_maxrss * 1024, stdout)  # Linux counts in KiB
