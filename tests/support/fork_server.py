"""Run command lines in children of a process that has imported torch and the package already.

That takes longer than all else that a command does, so it is done once: a server imports them and
forks a child for each command, which calls the same `conv2linear.cli.main` that the installed
command calls. Start-up alone is not the real one. Requests and replies are lines of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

_SAME_EVERYWHERE = {
    "OMP_NUM_THREADS": "1",
    "NO_COLOR": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
}
_HUB = "huggingface_hub"
_WITHOUT_HUB = "--without-hub"
_OF_OTHERS = (
    "httpx2",
    "pydantic.type_adapter",
    "rich.console",
    "safetensors.torch",
    "typer",
    "yaml",
)

Plant = Callable[[], None]
"""A function of a module without arguments, which plants a fault in the process that calls it."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended: exit code (minus the signal that killed it), and all it printed."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def output(self) -> str:
        """What it printed on both."""
        return self.stdout + self.stderr


class Running:
    """A command under way."""

    def __init__(self, server: ForkServer, pid: int, printed: tuple[Path, Path]) -> None:
        self._server, self._pid, self._printed = server, pid, printed
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
            stdout, stderr = (path.read_text(errors="replace") for path in self._printed)
            self._finished = Finished(code, stdout, stderr, seconds)
        return self._finished


class ForkServer:
    """The process that has imported torch; `environment` is added to that of every child.

    What the children print goes to files in `folder`. huggingface_hub reads variables when it is
    imported: where children have others, `imports_hub` has to be False, and they import it.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, imports_hub: bool = True
    ) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *([] if imports_hub else [_WITHOUT_HUB])],
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
        self,
        *arguments: str | Path,
        plant: Plant | None = None,
        cleans_up: bool = False,
        variables: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Running:
        """Start a command; `plant` is a function of a module that the child calls before.

        One that `cleans_up` ends as Python does, which takes it longer than all else; the others
        end without. `variables` are all that its environment has, where they are given.
        """
        self._count += 1
        name = f"{os.getpid()}-{self._process.pid}-{self._count % 8}"
        stdout, stderr = (self._folder / f"{name}.{end}" for end in ("stdout", "stderr"))
        pid = self.ask(
            start=[str(argument) for argument in arguments],
            printed=[str(stdout), str(stderr)],
            plant=f"{plant.__module__}:{plant.__qualname__}" if plant else None,
            cleans_up=cleans_up,
            variables=dict(variables) if variables is not None else None,
            cwd=str(cwd) if cwd else None,
        )
        return Running(self, pid, (stdout, stderr))

    def run(self, *arguments: str | Path) -> Finished:
        """Run a command to its end."""
        return self.start(*arguments).wait()

    def ask(self, **request: Any) -> Any:
        """Send a request and return the reply."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        return json.loads(self._process.stdout.readline())


def _serve(*, imports_hub: bool) -> None:
    for name in _OF_OTHERS:
        with contextlib.suppress(ModuleNotFoundError):  # other releases need others
            importlib.import_module(name)
    _import_package(imports_hub=imports_hub)
    # A shell lets what it starts in the background ignore Ctrl-C, and so would every child.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A child has no handler before it has begun: until then Ctrl-C has to wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    requests = os.fdopen(os.dup(0), buffering=1)
    while line := requests.readline():
        os.write(1, json.dumps(_answer(json.loads(line))).encode() + b"\n")


def _import_package(*, imports_hub: bool) -> None:
    """Import what a command might: all of the package but what engines load, or needs the Hub."""
    import conv2linear

    if not imports_hub:
        sys.modules[_HUB] = None  # type: ignore[assignment]  # so that it cannot be imported
    for module in pkgutil.walk_packages(conv2linear.__path__, "conv2linear."):
        if ".engines" not in module.name and not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if imports_hub or str(error.name).split(".")[0] != _HUB:
                    raise
    if not imports_hub:
        del sys.modules[_HUB]


def _answer(request: dict[str, Any]) -> Any:
    if "start" in request:
        pid = os.fork()
        if not pid:
            _run_command(request)
        return pid
    if "is_over" in request:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, request["is_over"], options) is not None
    return os.waitpid(request["wait"], 0)[1]


def _run_command(request: dict[str, Any]) -> None:
    """Be the command that is asked for; a child never comes back from here but by an exception."""
    _redirect(*request["printed"])
    if request["variables"] is not None:
        os.environ.clear()
        os.environ.update(request["variables"])
    if request["cwd"]:
        os.chdir(request["cwd"])
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
        if request["cleans_up"]:
            raise
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


def _redirect(*printed: str) -> None:
    """Read from nowhere, and print to files."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(printed, start=1):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        os.dup2(os.open(path, flags, 0o666), number)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        _serve(imports_hub=_WITHOUT_HUB not in sys.argv[1:])
