"""Run the parts one after the other, each in a process of its own, and keep what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lib.results import ROOT, say

_NOT_DONE = 124  # as `timeout` exits
_OFFLINE = {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}  # there may be no network


@dataclass(frozen=True)
class Done:
    """A part that has ended: its exit code, its time and what it printed to stdout."""

    name: str
    code: int
    seconds: float
    stdout: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout; an empty one where there is none."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return {}


@dataclass(frozen=True)
class Runner:
    """Runs parts with this Python, and writes all that they print to `log`."""

    log: Path

    def run(
        self,
        name: str,
        *arguments: str | Path,
        timeout_s: float,
        variables: Mapping[str, str] | None = None,
    ) -> Done:
        """Run `python -m ARGUMENTS` from the repository's root; it ends after `timeout_s`."""
        say(f"{name} ...")
        command = [sys.executable, "-m", *map(str, arguments)]
        start = time.perf_counter()
        done = subprocess.run(
            ["timeout", "--kill-after=10", str(timeout_s), *command],
            cwd=ROOT,
            env={**os.environ, **_OFFLINE, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        seconds = time.perf_counter() - start
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n{done.stdout}\n{done.stderr}\n")
            log.write(f"exit code {done.returncode} after {seconds:.1f} s\n\n")
        if done.returncode:
            say(done.stdout[-4000:] + done.stderr[-4000:])
        late = f" (not done after {timeout_s:.0f} s)" if done.returncode == _NOT_DONE else ""
        say(f"{name}: exit code {done.returncode} after {seconds:.1f} s{late}")
        return Done(name, done.returncode, round(seconds, 1), done.stdout)
