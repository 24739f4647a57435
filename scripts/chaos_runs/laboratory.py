"""What is run, where, and how what is left behind is judged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos_runs.checkpoints import Contents, contents, save_checkpoint, save_old_output, state
from chaos_runs.fork_server import Finished, ForkServer, Running
from chaos_runs.mortal_hub import MortalHub, served

LINEAR, CONV3D = "org/linear", "org/conv3d"


@dataclass(frozen=True)
class Job:
    """A command that makes OUT of a source: a folder, or a repository where that is None.

    `seconds` is how long it takes undisturbed, `expected` what it makes then. With `forced` an
    older output stands at OUT before.
    """

    name: str
    command: tuple[str, ...]
    source: Path | None
    options: tuple[str, ...] = ()
    seconds: float = 0.0
    expected: Contents = field(default_factory=dict)

    @property
    def is_forced(self) -> bool:
        """Whether it replaces an older output."""
        return "--force" in self.options

    def arguments(self, out: Path, *, force: bool = False) -> list[str]:
        """Return the command line, with --force where it has none but needs it."""
        extra = ["--force"] if force and not self.is_forced else []
        return [*self.command, str(out), *self.options, *extra]


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


class Place:
    """A folder of its own with the name OUT in it, for one job and its runs."""

    def __init__(self, folder: Path, server: ForkServer, job: Job) -> None:
        self.folder, self._server, self.job = folder, server, job
        self.out = folder / "linear"
        self.old = contents(save_old_output(self.out)) if job.is_forced else {}
        self._source = state(job.source) if job.source else {}
        self.violations: list[str] = []

    @property
    def staging(self) -> Path:
        """The folder that a run fills."""
        return self.folder / ".linear.conv2linear"

    def start(self, *, plant: str | None = None, tidy: bool = False) -> Running:
        """Start the job."""
        return self._server.start(*self.job.arguments(self.out), plant=plant, tidy=tidy)

    def judge(self, finished: Finished, *, codes: tuple[int, ...]) -> str:
        """Check what a run left behind; returns what became of OUT, in a word or two."""
        self.judge_words(finished, codes=codes)
        self.judge_source()
        found = contents(self.out)
        if self.out.exists() and found not in (self.old or None, self.job.expected):
            self._blame(f"OUT is neither absent nor whole: {_difference(found, self.job.expected)}")
        if self.job.is_forced and not self.out.exists():
            self._blame("the old OUT is gone")
        if finished.code == 0 and found != self.job.expected:
            self._blame("exit code 0 without the new OUT")
        strays = {p.name for p in self.folder.iterdir()} - {self.out.name, self.staging.name}
        if strays:
            self._blame(f"stray files beside OUT: {sorted(strays)}")
        staged = " and staged files" if self.staging.exists() else ""
        if not self.out.exists():
            return f"absent{staged}"
        return f"{'new' if found == self.job.expected else 'old'}{staged}"

    def judge_words(self, finished: Finished, *, codes: tuple[int, ...]) -> None:
        """Check the exit code of a run, and that it said no traceback."""
        if finished.code not in codes:
            self._blame(f"exit code {finished.code}, expected one of {codes}: {finished.said!r}")
        if "Traceback" in finished.said or "internal error" in finished.said:
            self._blame(f"said {finished.said!r}")

    def judge_source(self) -> None:
        """Check that the source is what it was."""
        if self.job.source and state(self.job.source) != self._source:
            self._blame("the source has changed")

    def judge_rerun(self) -> None:
        """Run the job once more, undisturbed: it succeeds, and leaves nothing beside OUT."""
        again = self._server.run(*self.job.arguments(self.out, force=self.out.exists()))
        self.judge(again, codes=(0,))
        left = [path.name for path in self.folder.iterdir() if path != self.out]
        if left:
            self._blame(f"left beside OUT by a run that succeeded: {left}")

    def _blame(self, violation: str) -> None:
        self.violations.append(violation)


def _difference(found: Contents, expected: Contents) -> str:
    names = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    kinds = {
        n: "missing" if n not in found else "wrong" if n in expected else "more" for n in names
    }
    return ", ".join(f"{name} is {kind}" for name, kind in list(kinds.items())[:5])


class Laboratory:
    """The checkpoints, the process that runs the commands, and the Hub if there is one.

    Use `opened`. The same seed gives the same moments, as shares of what a run takes.
    """

    def __init__(
        self,
        folder: Path,
        server: ForkServer,
        *,
        seed: int,
        hub: MortalHub | None,
        measurements: int,
    ) -> None:
        self._measurements = measurements
        self.folder, self.server, self.hub = folder, server, hub
        self.random = random.Random(seed)
        self.source = save_checkpoint(folder / "source", seed=0)
        self.linear = folder / "linear"
        self._must(server.run("convert", self.source, self.linear, "--device", "cpu"))
        convert = ("convert", str(self.source))
        restore = ("restore", str(self.linear))
        cpu = ("--device", "cpu")
        jobs = [
            Job("convert", convert, self.source, cpu),
            Job("convert --hardlink", convert, self.source, (*cpu, "--hardlink")),
            Job("convert --force", convert, self.source, (*cpu, "--force")),
            Job("restore", restore, self.linear),
            Job("restore --hardlink --force", restore, self.linear, ("--hardlink", "--force")),
        ]
        self.hub_jobs: list[Job] = []
        if hub:
            hub.hub.publish(CONV3D, self.source)
            hub.hub.publish(LINEAR, self.linear)
            self.hub_jobs = [
                Job("convert from the Hub", ("convert", CONV3D), None, cpu),
                Job("convert --force from the Hub", ("convert", CONV3D), None, (*cpu, "--force")),
                Job("restore from the Hub", ("restore", LINEAR), None),
            ]
        self.local_jobs = [self.measured(job) for job in jobs]
        self.hub_jobs = [self.measured(job) for job in self.hub_jobs]
        for job in self.jobs:
            if job.command[0] == "restore" and job.expected != contents(self.source):
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
            with self.place(job) as place:
                seconds.append(self._must(place.start().wait()).seconds)
                expected = contents(place.out)
        return Job(
            job.name, job.command, job.source, job.options, statistics.median(seconds), expected
        )

    @contextmanager
    def place(self, job: Job, *, on: Path | None = None) -> Iterator[Place]:
        """Give a job an empty folder to write to, on another disk if one is named."""
        folder = (on or self.folder) / "outputs"
        folder.mkdir()
        try:
            yield Place(folder, self.server, job)
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)

    def moment(self, job: Job, *, share: float | None = None) -> float:
        """Return seconds from the start of a job to a random moment, some of them after its end."""
        return (self.random.random() if share is None else share) * 1.1 * job.seconds

    def _must(self, finished: Finished) -> Finished:
        if finished.code:
            raise RuntimeError(f"undisturbed, a run ends with {finished.code}: {finished.said}")
        return finished


@contextmanager
def opened(
    folder: Path, *, seed: int, with_hub: bool, measurements: int = 3
) -> Iterator[Laboratory]:
    """Set up a laboratory in an empty folder, and end its processes afterwards."""
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(served(folder / "hub")) if with_hub else None
        environment = hub.hub.environment(folder / "home") if hub else {"HF_HUB_OFFLINE": "1"}
        said = folder / "said"
        said.mkdir(parents=True)
        server = stack.enter_context(ForkServer(said, {**_without_hub(), **environment}))
        yield Laboratory(folder, server, seed=seed, hub=hub, measurements=measurements)


def _without_hub() -> dict[str, str]:
    """Return empty values for what the user's environment says of the Hub."""
    return {name: "" for name in os.environ if name.startswith("HF_")}
