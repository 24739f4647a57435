"""What `verify` found: the outcome of each check, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from conv2linear.result import Result
from conv2linear.text import TextEnum

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence


class Outcome(TextEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Check(Result):
    """One named check: `detail` says what was found, or why the check was skipped."""

    name: str
    outcome: Outcome
    detail: str

    def __repr__(self) -> str:
        outcome = str(self.outcome)
        return f"Check(name={self.name!r}, outcome={outcome!r}, detail={self.detail!r})"


@dataclass(frozen=True)
class Verification(Result):
    """All checks of one checkpoint, and the equivalence check of each patch embedding.

    `checkpoint` and `source` are named as the caller named them; `source` is None where there was
    nothing to compare with.
    """

    derived: ClassVar[tuple[str, ...]] = ("passed",)

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
        return tuple(check for check in self.checks if check.outcome is Outcome.FAIL)

    def __repr__(self) -> str:
        failed = [check.name for check in self.failed]
        return (
            f"Verification(checkpoint={self.checkpoint!r}, passed={self.passed}, failed={failed})"
        )
