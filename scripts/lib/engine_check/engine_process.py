"""Start an engine again and again, each time in a child of a process that has imported it.

To import an engine takes longer than all that is looked at here, so it is done once. What differs
from start to start, plugins among it, an engine does only after it was imported. Requests and
replies are lines of JSON.
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
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from scripts.lib.engine_check.cases import Answers, Case
from scripts.lib.results import ROOT

# One thread: two that wait for each other stand still on a machine with other work.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
_ENVIRONMENT = {
    # All in one process, but for the workers of tensor parallelism.
    "vllm": {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    },
    # Two ranks need cores of their own where there is one NUMA node.
    "sglang": {"SGLANG_USE_CPU_ENGINE": "1", "SGLANG_CPU_OMP_THREADS_BIND": "0|1"},
}
ENGINES = tuple(sorted(_ENVIRONMENT))
_TIMEOUT_S = 900


@dataclass(frozen=True)
class Run:
    """What came of one start of an engine; `answers` is None where it failed."""

    answers: Answers | None
    log: str
    seconds: float


class EngineProcess:
    """The process that has imported an engine; it is left as a context."""

    def __init__(self, engine: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, engine],
            cwd=ROOT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"} | _ONE_THREAD | _ENVIRONMENT[engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def start(self, case: Case, options: Mapping[str, Any], work: Path) -> Run:
        """Start the engine and let it answer the prompts; `work` has the checkpoints."""
        assert self._process.stdin
        assert self._process.stdout
        output, log = work / "answers.json", work / "log.txt"
        output.unlink(missing_ok=True)
        update_from = None if case.update_from is None else str(work / case.update_from)
        request = {
            "arguments": [str(work / case.checkpoint), str(output), dict(options), update_from],
            "env": dict(case.env),
            "log": str(log),
        }
        started = time.monotonic()
        self._process.stdin.write(json.dumps(request) + "\n")
        if not self._process.stdout.readline():
            raise SystemExit("the process that has imported the engine has ended")
        seconds = time.monotonic() - started
        answers = json.loads(output.read_text()) if output.exists() else None
        return Run(answers, log.read_text(errors="replace"), seconds)


def _serve(engine: str) -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine prints when it is imported is no reply
    module = importlib.import_module(f"scripts.lib.engine_check.generate_{engine}")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _be_engine(module.main, request)
        replies.write(json.dumps(_wait(child)) + "\n")


def _be_engine(main: Any, request: Mapping[str, Any]) -> None:
    """Start the engine in this process, which ends with it."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, target)
    os.environ.update(request["env"])
    code = 1
    try:
        main(*request["arguments"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _wait(child: int) -> int:
    """Wait for a start to end, and end all that it has left; one that hangs is ended."""
    deadline = time.monotonic() + _TIMEOUT_S
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    _serve(sys.argv[1])
