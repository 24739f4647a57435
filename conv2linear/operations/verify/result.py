"""What `verify` found: the outcome of each check, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from conv2linear.checkpoint.compatibility import Loading
from conv2linear.equivalence.outcome import Equivalence, Step
from conv2linear.operations.verify.identity import Identity
from conv2linear.result import Result
from conv2linear.text import TextEnum, plural

SOUND = "sound"  # what the verdict on a checkpoint is, or begins with
_SHOWN = 3  # files that are named before the rest is left to --json


class Outcome(TextEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    NOT_DONE = "not done"  # it was asked for, and could not be made


@dataclass(frozen=True)
class Check(Result):
    """One named check: `detail` says what was found, or why the check was not made.

    A check is skipped where there is nothing for it to look at. One that the caller asked for is
    not skipped: it is not done.
    """

    name: str
    outcome: Outcome
    detail: str

    def __repr__(self) -> str:
        outcome = str(self.outcome)
        return f"Check(name={self.name!r}, outcome={outcome!r}, detail={self.detail!r})"


@dataclass(frozen=True)
class NotCompared(Result):
    """The files whose bytes were compared with nothing, and the command that compares them."""

    files: tuple[str, ...]
    command: str

    def __str__(self) -> str:
        more = len(self.files) - _SHOWN
        shown = ", ".join(self.files[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        return f"{plural(len(self.files), 'file')} ({shown}): `{self.command}` compares them"


@dataclass(frozen=True)
class Verification(Result):
    """All checks of one checkpoint, and the equivalence check of each patch embedding.

    `checkpoint` and `source` are named as the caller named them; `source` is None where there was
    nothing to compare with; `compatibility` says where it loads, by what is known of the loaders
    (nothing where the files could not be read); `warnings` are about this machine and what was
    read, not faults; `identity` has the commits and hashes that these files are known by.
    `not_compared` names the files whose bytes were compared with nothing, None where there is none.
    """

    derived: ClassVar[tuple[str, ...]] = ("passed", "verdict")

    checkpoint: str
    source: str | None
    checks: tuple[Check, ...]
    equivalences: tuple[Equivalence, ...]
    compatibility: tuple[Loading, ...] = ()
    warnings: tuple[str, ...] = ()
    identity: Identity | None = None
    not_compared: NotCompared | None = None

    @property
    def passed(self) -> bool:
        """Whether no check failed, and all were made that the caller asked for.

        A check that was skipped proved nothing.
        """
        return not self.failed and not self.not_done

    @property
    def exit_code(self) -> int:
        """0 where it passed, 1 where a check failed, 2 where one that was asked for is not done."""
        if self.failed:
            return 1
        return 2 if self.not_done else 0

    @property
    def verdict(self) -> str:
        """What the checks say together, in a few words.

        Only a weight that was compared with the source's, or with its record, is called sound, and
        without more words only a checkpoint of which every file was.
        """
        if self.exit_code:
            return "not sound" if self.failed else "not verified as asked"
        if not self.is_compared:
            return "no fault found, compared with nothing"
        return f"{SOUND} as far as compared" if self.not_compared else SOUND

    @property
    def is_compared(self) -> bool:
        """Whether the weights were compared with those of the source, or with their record."""
        return not any(
            check.name == Step.EQUIVALENCE.value and check.outcome is Outcome.SKIP
            for check in self.checks
        )

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return self._with(Outcome.FAIL)

    @property
    def not_done(self) -> tuple[Check, ...]:
        """The checks that the caller asked for and that could not be made."""
        return self._with(Outcome.NOT_DONE)

    def _with(self, outcome: Outcome) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome is outcome)

    def __repr__(self) -> str:
        failed = [check.name for check in self.failed]
        return (
            f"Verification(checkpoint={self.checkpoint!r}, passed={self.passed}, failed={failed})"
        )
