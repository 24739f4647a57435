"""Programs that tests run in processes of their own, and what came of them."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.fork_server import Running
from tests.support.schemas import assert_follows_schema


@dataclass(frozen=True)
class Finished:
    """A command line that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout; what a command prints follows its schema."""
        document = json.loads(self.stdout)
        if isinstance(document, dict) and "command" in document and find_spec("jsonschema"):
            assert_follows_schema(document)  # a GPU machine may lack jsonschema
        return document

    def assert_refused(self, *words: str, code: int = 2) -> None:
        """Check that it ended with one line of error that has these words, and a hint at most."""
        assert self.code == code, self.stderr
        assert self.stdout == ""
        assert "Traceback" not in self.stderr
        lines = self.stderr.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1, self.stderr
        assert lines.index(errors[0]) >= len(lines) - 2, self.stderr
        assert all(line.startswith("hint: ") for line in lines[lines.index(errors[0]) + 1 :])
        for word in words:
            assert word in errors[0], errors[0]


RunCli = Callable[..., Finished]  # what the fixtures `run_cli` and `run_here` are
Refuse = Callable[..., Finished]  # what the fixture `refuse` of the tests of bad input is


def finish(running: Running, *, timeout_s: float) -> Finished:
    """Wait for a command that has been started, `timeout_s` at most.

    Raises `subprocess.TimeoutExpired` where it has not ended by then.
    """
    deadline = time.monotonic() + timeout_s
    while not running.is_over():
        if time.monotonic() > deadline:
            running.signal(signal.SIGKILL)
            raise subprocess.TimeoutExpired("conv2linear", timeout_s)
        time.sleep(0.01)
    done = running.wait()
    return Finished(done.code, done.stdout, done.stderr)


def run_python(program: str, *arguments: str | Path, **options: Any) -> Finished:
    """Run Python code in a process of its own; `options` are those of `subprocess.run`."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    return Finished(done.returncode, done.stdout, done.stderr)


def peak_kb(program: str, *arguments: str | Path) -> int:
    """Run Python code in a process of its own and return its largest resident set."""
    measured = (
        f"import resource\n{program}\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = run_python(measured, *arguments)
    assert done.code == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def obey_permissions() -> None:
    """Make this process, if it is root, obey the permissions of files from its next program on.

    It is meant for `preexec_fn` of `subprocess`.
    """
    if os.geteuid() == 0:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "cannot give up a capability")
