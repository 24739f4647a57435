"""What is run: the checkpoints, the jobs, and the processes that carry them out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scripts.lib.chaos.checkpoints import save_source
from scripts.lib.chaos.workspace import Job, Workspace
from tests.support.contents import hashes
from tests.support.fork_server import Finished, ForkServer
from tests.support.hub.read_server import HubServer

_LINEAR, _CONV3D = "org/linear", "org/conv3d"
_CPU = ("--device", "cpu")


@dataclass
class Tally:
    """What came of all runs of a scenario."""

    scenario: str
    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    skipped: str | None = None

    def add(self, outcome: str, violations: list[str], *, of: str) -> None:
        """Count one run."""
        self.runs += 1
        self.outcomes[outcome] += 1
        self.violations += [f"{of}: {violation}" for violation in violations]


class Harness:
    """The checkpoints, the process that runs the commands, and a Hub if there is one.

    Use `open_harness`. The same seed gives the same moments, as shares of what a run takes.
    """

    def __init__(
        self,
        folder: Path,
        server: ForkServer,
        *,
        seed: int,
        hub: HubServer | None,
        measurements: int,
    ) -> None:
        self._measurements = measurements
        self.folder, self.server, self.hub = folder, server, hub
        self.random = random.Random(seed)
        self.source = save_source(folder / "source", seed=0)
        self.linear = folder / "linear"
        _require_success(server.run("convert", self.source, self.linear, *_CPU))
        self.local_jobs = [self.measured(job) for job in self._plan_local_jobs()]
        self.hub_jobs = [self.measured(job) for job in self._plan_hub_jobs()]
        for job in self.jobs:
            if job.command[0] == "restore" and job.expected != hashes(self.source):
                raise RuntimeError(f"{job.name} undisturbed does not give the source back")

    @property
    def aside(self) -> Path:
        """A second folder to write to."""
        folder = self.folder / "aside"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def jobs(self) -> list[Job]:
        """All jobs, with their durations and what they make."""
        return [*self.local_jobs, *self.hub_jobs]

    def measured(self, job: Job) -> Job:
        """Run a job a few times without disturbing it, and note what it takes and makes."""
        seconds: list[float] = []
        for _ in range(self._measurements):
            with self.workspace(job) as workspace:
                seconds.append(_require_success(workspace.start().wait()).seconds)
                expected = hashes(workspace.out)
        return dataclasses.replace(job, seconds=statistics.median(seconds), expected=expected)

    @contextmanager
    def workspace(self, job: Job, *, on: Path | None = None) -> Iterator[Workspace]:
        """Give a job an empty folder to write to, on another disk if one is named."""
        folder = (on or self.folder) / "outputs"
        folder.mkdir()
        try:
            yield Workspace(folder, self.server, job)
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)

    def moment(self, job: Job, *, share: float | None = None) -> float:
        """Return seconds from the start of a job to a random moment, some of them after its end."""
        return (self.random.random() if share is None else share) * 1.1 * job.seconds

    def _plan_local_jobs(self) -> list[Job]:
        convert = ("convert", str(self.source))
        restore = ("restore", str(self.linear))
        return [
            Job("convert", convert, self.source, _CPU),
            Job("convert --hardlink", convert, self.source, (*_CPU, "--hardlink")),
            Job("convert --force", convert, self.source, (*_CPU, "--force")),
            Job("restore", restore, self.linear),
            Job("restore --hardlink --force", restore, self.linear, ("--hardlink", "--force")),
        ]

    def _plan_hub_jobs(self) -> list[Job]:
        if not self.hub:
            return []
        self.hub.publish(_CONV3D, self.source)
        self.hub.publish(_LINEAR, self.linear)
        convert = ("convert", _CONV3D)
        return [
            Job("convert from the Hub", convert, None, _CPU),
            Job("convert --force from the Hub", convert, None, (*_CPU, "--force")),
            Job("restore from the Hub", ("restore", _LINEAR), None),
        ]


@contextmanager
def open_harness(
    folder: Path, *, seed: int, with_hub: bool, measurements: int = 3
) -> Iterator[Harness]:
    """Set up a harness in an empty folder, and end its processes afterwards."""
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(HubServer(folder / "hub")) if with_hub else None
        environment = hub.environment(folder / "home") if hub else {"HF_HUB_OFFLINE": "1"}
        outputs = folder / "printed"
        outputs.mkdir(parents=True)
        server = stack.enter_context(ForkServer(outputs, {**_without_hub(), **environment}))
        yield Harness(folder, server, seed=seed, hub=hub, measurements=measurements)


def _require_success(finished: Finished) -> Finished:
    if finished.code:
        raise RuntimeError(f"undisturbed, a run ends with {finished.code}: {finished.output}")
    return finished


def _without_hub() -> dict[str, str]:
    """Return empty values for the environment variables of the user that name a Hub."""
    return {name: "" for name in os.environ if name.startswith("HF_")}
