"""What the checks of one run look at, and what they found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.errors import BadCheckpointError, CheckFailedError, UnsupportedCheckpointError
from conv2linear.progress import Progress
from conv2linear.record.manifest import MANIFEST_NAME, Manifest
from conv2linear.sources.base import Repository
from conv2linear.text import TextEnum

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence


class Outcome(TextEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Check:
    """One named check: its outcome is pass, fail or skip, `detail` says what was found or why."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class Verification:
    """All checks of one checkpoint, and the equivalence check of each patch embedding."""

    checkpoint: str
    source: str | None
    checks: tuple[Check, ...]
    equivalences: tuple[Equivalence, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; one that was skipped proved nothing."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome == Outcome.FAIL)


class SkippedError(Exception):
    """A check cannot be made, for the reason that the message gives."""


@dataclass
class Run:
    """What the checks of one run share; those before fill in what those behind need."""

    repository: Repository
    workers: int
    progress: Progress
    manifest: Manifest | None = None
    checkpoint: Checkpoint | None = None
    source: Checkpoint | None = None
    checks: list[Check] = field(default_factory=list)
    equivalences: list[Equivalence] = field(default_factory=list)

    def check(self, name: str, function: Callable[[Run], str]) -> None:
        """Make one check; whatever it finds becomes a row of the result."""
        self.progress.step(name)
        try:
            outcome, detail = Outcome.PASS, function(self)
        except SkippedError as reason:
            outcome, detail = Outcome.SKIP, str(reason)
        except (CheckFailedError, BadCheckpointError, UnsupportedCheckpointError) as error:
            outcome, detail = Outcome.FAIL, str(error)
        self.checks.append(Check(name, outcome, detail))

    @property
    def opened(self) -> Checkpoint:
        """The checkpoint, for checks that make no sense without one."""
        if self.checkpoint is None:
            raise SkippedError("the files are not sound")
        return self.checkpoint

    @property
    def recorded(self) -> Manifest:
        """The manifest, for checks that make no sense without one."""
        if self.manifest is None:
            raise SkippedError(f"no {MANIFEST_NAME} that says what it should be")
        return self.manifest
