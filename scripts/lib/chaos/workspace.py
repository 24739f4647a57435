"""Where a job writes its output, and how what it leaves behind is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from scripts.lib.chaos.checkpoints import save_old_output
from tests.support.contents import hashes, snapshot
from tests.support.fork_server import Finished, ForkServer, Plant, Running

Contents = dict[str, str]
"""The SHA-256 of every file in a folder, by its path there."""


@dataclass(frozen=True)
class Job:
    """A command that makes OUT of a source: a folder, or a repository where that is None.

    `seconds` is how long it takes undisturbed, `expected` what it makes then. With --force an
    older output is at OUT before.
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


class Workspace:
    """A folder of its own with the name OUT in it, for one job and its runs."""

    def __init__(self, folder: Path, server: ForkServer, job: Job) -> None:
        self.folder, self._server, self.job = folder, server, job
        self.out = folder / "linear"
        self.old = hashes(save_old_output(self.out)) if job.is_forced else {}
        self._source = snapshot(job.source) if job.source else {}
        self.violations: list[str] = []

    @property
    def staging(self) -> Path:
        """The folder that a run fills."""
        return self.folder / ".linear.conv2linear"

    def start(
        self, *, plant: Plant | None = None, cleans_up: bool = False, force: bool = False
    ) -> Running:
        """Start the job, with --force if asked for; see `ForkServer.start`."""
        arguments = self.job.arguments(self.out, force=force)
        return self._server.start(*arguments, plant=plant, cleans_up=cleans_up)

    def judge(
        self, finished: Finished, *, codes: tuple[int, ...], may_lie_aside: bool = False
    ) -> str:
        """Check what a run left behind; returns what became of OUT, in a word or two.

        `may_lie_aside` says that the old OUT may be among what is staged, complete.
        """
        self.judge_ending(finished, codes=codes)
        self.judge_source()
        self._judge_folder(may_lie_aside=may_lie_aside)
        found = hashes(self.out)
        if finished.code == 0 and found != self.job.expected:
            self._add_violation("exit code 0 without the new OUT")
        staged = " and staged files" if self.staging.exists() else ""
        if not self.out.exists():
            return f"absent{staged}"
        return f"{'new' if found == self.job.expected else 'old'}{staged}"

    def judge_ending(self, finished: Finished, *, codes: tuple[int, ...]) -> None:
        """Check the exit code of a run, and that it printed no traceback."""
        if finished.code not in codes:
            self._add_violation(
                f"exit code {finished.code}, expected one of {codes}: {finished.output!r}"
            )
        if "Traceback" in finished.output or "internal error" in finished.output:
            self._add_violation(f"printed {finished.output!r}")

    def judge_source(self) -> None:
        """Check that the source is what it was."""
        if self.job.source and snapshot(self.job.source) != self._source:
            self._add_violation("the source has changed")

    def judge_rerun(self, *, plant: Plant | None = None) -> None:
        """Run the job once more, undisturbed: it succeeds, and leaves nothing beside OUT."""
        running = self.start(plant=plant, force=self.out.exists())
        self.judge(running.wait(), codes=(0,))
        left = [path.name for path in self.folder.iterdir() if path != self.out]
        if left:
            self._add_violation(f"left beside OUT by a run that succeeded: {left}")

    def _judge_folder(self, *, may_lie_aside: bool) -> None:
        if not self.out.exists():
            if self.job.is_forced and not (may_lie_aside and self._lies_aside()):
                self._add_violation("the old OUT is gone")
        elif (found := hashes(self.out)) not in (self.old or None, self.job.expected):
            difference = _describe_difference(found, self.job.expected)
            self._add_violation(f"OUT is neither absent nor whole: {difference}")
        strays = {p.name for p in self.folder.iterdir()} - {self.out.name, self.staging.name}
        if strays:
            self._add_violation(f"stray files beside OUT: {sorted(strays)}")

    def _lies_aside(self) -> bool:
        folders = self.staging.iterdir() if self.staging.exists() else ()
        return any(hashes(folder) == self.old for folder in folders if folder.is_dir())

    def _add_violation(self, violation: str) -> None:
        self.violations.append(violation)


def _describe_difference(found: Contents, expected: Contents) -> str:
    names = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    kinds = {
        n: "missing" if n not in found else "wrong" if n in expected else "more" for n in names
    }
    return ", ".join(f"{name} is {kind}" for name, kind in list(kinds.items())[:5])
