"""Run command lines in children of a process that has imported everything already.

`import torch` takes longer than all that is to be disturbed, so it is done once: a server imports
it and forks a child for each command, which calls the same `conv2linear.cli.main` that the
installed command calls. Start-up alone is not the real one. Requests and replies are lines of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

_PRELOADED = (
    "conv2linear.cli.app",
    "conv2linear.conversion",
    "conv2linear.equivalence",
    "conv2linear.hub",
    "conv2linear.proof",
    "conv2linear.restoration",
    "safetensors.torch",
)

_SAME_EVERYWHERE = {
    "OMP_NUM_THREADS": "1",
    "NO_COLOR": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
}


@dataclass(frozen=True)
class Finished:
    """A command that has ended: exit code (minus the signal that killed it), and all it said."""

    code: int
    said: str
    seconds: float


class Running:
    """A command under way."""

    def __init__(self, server: ForkServer, pid: int, said: Path) -> None:
        self._server, self._pid, self._said = server, pid, said
        self._start = time.monotonic()
        self._finished: Finished | None = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended already stays a zombie until it is waited for."""
        os.kill(self._pid, number)

    def is_over(self) -> bool:
        """Tell whether it has ended."""
        return bool(self._server.ask(is_over=self._pid))

    def wait(self) -> Finished:
        """Wait until it ends."""
        if self._finished is None:
            status = self._server.ask(wait=self._pid)
            seconds = time.monotonic() - self._start
            code = os.waitstatus_to_exitcode(status)
            self._finished = Finished(code, self._said.read_text(errors="replace"), seconds)
        return self._finished


class ForkServer:
    """The process that has imported torch; `environment` is that of every child."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment, **_SAME_EVERYWHERE},
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def start(
        self, *arguments: str | Path, plant: str | None = None, tidy: bool = False
    ) -> Running:
        """Start a command; `plant` names a function `module:name` that the child calls before.

        A `tidy` one lets the interpreter clean up at its end, which takes it longer than all else.
        """
        self._count += 1
        said = self._folder / f"said-{os.getpid()}-{self._process.pid}-{self._count % 8}.txt"
        command = [str(argument) for argument in arguments]
        pid = self.ask(start=command, said=str(said), plant=plant, tidy=tidy)
        return Running(self, pid, said)

    def run(self, *arguments: str | Path) -> Finished:
        """Run a command to its end."""
        return self.start(*arguments).wait()

    def ask(self, **request: Any) -> Any:
        """Send a request and return the reply."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        return json.loads(self._process.stdout.readline())


def _serve() -> None:
    for module in _PRELOADED:
        importlib.import_module(module)
    # A child has no handler before it has begun: until then Ctrl-C has to wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    requests = os.fdopen(os.dup(0), buffering=1)
    while line := requests.readline():
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if not pid:
                _become(request)
            reply: Any = pid
        elif "is_over" in request:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            reply = os.waitid(os.P_PID, request["is_over"], options) is not None
        else:
            reply = os.waitpid(request["wait"], 0)[1]
        os.write(1, json.dumps(reply).encode() + b"\n")


def _become(request: dict[str, Any]) -> None:
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if request["plant"]:
        module, _, name = request["plant"].partition(":")
        getattr(importlib.import_module(module), name)()
    sys.argv = ["conv2linear", *request["start"]]
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)  # it came before the command could begin
    from conv2linear.cli import main

    try:
        main()
    except SystemExit as end:
        if request["tidy"]:
            raise
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        _serve()
