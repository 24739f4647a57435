"""Run tests on copies of the project, in children of a process that has imported what takes long.

Each child has a copy, and a process group that ends with it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.lib.mutate.project import Project, environment_of

_FACTOR = 8  # a test that takes that much longer than it did is a hang


@dataclass(frozen=True)
class Job:
    """Tests to run: the files, options of pytest, and how long they may take.

    `prepare` is called before with a folder that has the `copy` in it, and returns plugins;
    `finish` after, with the folder and the exit code.
    """

    files: Sequence[str]
    options: Sequence[str]
    limit_s: float
    prepare: Callable[[Path], Sequence[object]]
    finish: Callable[[Path, int], None]


class Selection:
    """A plugin of pytest that runs chosen tests only, in their order, each within a time limit.

    `limits_s` has the limits by the names of the tests. The first that fails is written to
    `caught`.
    """

    def __init__(self, limits_s: Mapping[str, float], *, caught: Path) -> None:
        self._order = {name: number for number, name in enumerate(limits_s)}
        self._limits_s, self._caught, self._failed = limits_s, caught, ""
        self._caught.unlink(missing_ok=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose and sort."""
        chosen = [item for item in items if item.nodeid in self._order]
        items[:] = sorted(chosen, key=lambda item: self._order[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """End the process where a test hangs."""
        self._caught.write_text(f"{item.nodeid} (hangs)")
        faulthandler.dump_traceback_later(self._limits_s[item.nodeid], exit=True)
        result = yield
        faulthandler.cancel_dump_traceback_later()
        self._caught.unlink(missing_ok=True)
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write down the one that has failed."""
        if session.testsfailed and self._failed:
            self._caught.write_text(self._failed)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the one that fails."""
        if report.failed:
            self._failed = report.nodeid


def limit_s(seconds: float, *, least_s: float) -> float:
    """Return how long something may take that has taken so long."""
    return least_s + _FACTOR * seconds


def preload(project: Project) -> None:
    """Import what is not mutated, once for all children."""
    os.environ.update(environment_of(project.root))
    for name in project.preloads:
        with contextlib.suppress(ImportError):  # a newer version of a library may have moved it
            importlib.import_module(name)


def run_jobs(project: Project, jobs: Iterable[Job], *, folders: Sequence[Path]) -> None:
    """Run jobs, as many at a time as there are folders; each is copied to first if it is not."""
    free = list(folders)
    running: dict[int, tuple[Job, Path, float]] = {}
    try:
        for job in jobs:
            if not free:
                free.append(_wait_for_one(running))
            folder = free.pop()
            if not folder.exists():
                project.copy_to(folder / "copy")
            pid = _start(project, job, folder, plugins=job.prepare(folder))
            running[pid] = job, folder, time.monotonic() + job.limit_s
        while running:
            _wait_for_one(running)
    finally:
        for pid in running:
            _end_group(pid)


def _wait_for_one(running: dict[int, tuple[Job, Path, float]]) -> Path:
    while True:
        for pid, (job, folder, deadline) in running.items():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
            elif not ended:
                continue
            del running[pid]
            _end_group(pid)
            job.finish(folder, os.waitstatus_to_exitcode(status))
            return folder
        time.sleep(0.02)


def _start(project: Project, job: Job, folder: Path, *, plugins: Sequence[object]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.setsid()
        _become_fresh(project, folder)
        code = int(pytest.main(_arguments(job, folder), plugins=list(plugins)))
    finally:
        os._exit(code)


def _become_fresh(project: Project, folder: Path) -> None:
    """Be a process that has imported nothing of the project but what its copy has."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where started by `&`
    copy = folder / "copy"
    printed = os.open(folder / "printed.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.environ.update(environment_of(copy))
    sys.dont_write_bytecode = True
    os.chdir(copy)
    sys.path[:] = [str(copy), *(each for each in sys.path if each not in ("", str(project.root)))]
    own = {Path(part).parts[0] for part in project.parts}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _arguments(job: Job, folder: Path) -> list[str]:
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "--rootdir", str(folder / "copy")]
    return [*options, "--basetemp", str(folder / "temporary"), *job.options, *job.files]


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
