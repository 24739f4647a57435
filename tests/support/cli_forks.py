"""Run the command line in a process that is new to this package and yet quick to start.

To import torch takes longer than all the rest of a command. One server imports it, and what else
is not ours, for all the tests of a process, and every command is a fork of it, with arguments, a
working directory and variables of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.processes import Finished

_POLL_S = 0.01
_PRELOADED = ("rich.console", "safetensors.torch", "typer", "yaml")


class CliForks:
    """The server, with variables of its own.

    It has not imported what reads variables for good, as huggingface_hub does.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._started: subprocess.Popen[str] | None = None

    def __enter__(self) -> CliForks:
        return self

    def __exit__(self, *error: object) -> None:
        if self._started is not None:
            self._started.communicate()

    def run(
        self, *arguments: str | Path, env: Mapping[str, str], cwd: Path | None, timeout: float
    ) -> Finished:
        """Run a command to its end.

        Raises `subprocess.TimeoutExpired` where it has not ended after `timeout` seconds.
        """
        command = [str(argument) for argument in arguments]
        with tempfile.TemporaryDirectory() as folder:
            stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
            pid = self._ask(
                start=command,
                env=dict(env),
                cwd=str(cwd or Path.cwd()),
                printed=[str(stdout), str(stderr)],
            )
            deadline = time.monotonic() + timeout
            while (status := self._ask(wait=pid)) is None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(command, timeout)
                time.sleep(_POLL_S)
            code = os.waitstatus_to_exitcode(status)
            return Finished(code, stdout.read_text(), stderr.read_text())

    def _ask(self, **request: Any) -> Any:
        if self._started is None:
            command = [sys.executable, "-m", __name__]
            self._started = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                text=True,
                bufsize=1,
            )
        assert self._started.stdin
        assert self._started.stdout
        self._started.stdin.write(json.dumps(request) + "\n")
        return json.loads(self._started.stdout.readline())


def _serve() -> None:
    for name in _PRELOADED:
        importlib.import_module(name)
    requests = os.fdopen(os.dup(0), buffering=1)
    while line := requests.readline():
        os.write(1, json.dumps(_answer(json.loads(line))).encode() + b"\n")


def _answer(request: dict[str, Any]) -> int | None:
    if "start" in request:
        pid = os.fork()
        if not pid:
            _be_command(request)
        return pid
    pid, status = os.waitpid(request["wait"], os.WNOHANG)
    return status if pid else None


def _be_command(request: dict[str, Any]) -> None:
    """Be the command, as `python -m conv2linear` is; a child ends in here."""
    with contextlib.suppress(BaseException):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in enumerate(request["printed"], start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = ["conv2linear", *request["start"]]
        try:
            from conv2linear.cli import main

            main()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
    os._exit(70)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        _serve()
