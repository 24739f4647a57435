"""One check of a list: its name, what it needs, and how its outcome is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conv2linear.operations.verify.needs import (
    Need,
    NotAskedForError,
    NotDoneError,
    SkippedError,
)
from conv2linear.operations.verify.result import Check, Outcome
from conv2linear.operations.verify.subject import FINDINGS, Subject


@dataclass(frozen=True)
class NamedCheck:
    """A check, and what must be there for it: where that is missing, it is skipped.

    `function` returns what it found, or raises one of `FINDINGS` or `SkippedError`.
    """

    name: str
    function: Callable[[Subject], str]
    needs: tuple[Need, ...] = ()


def run_check(check: NamedCheck, subject: Subject) -> Check | None:
    """Make one check; None where it is one that the caller has to ask for, and has not."""
    try:
        for need in check.needs:
            need(subject)
        subject.options.progress.step(check.name)
        return Check(check.name, Outcome.PASS, check.function(subject))
    except NotAskedForError:
        return None
    except SkippedError as reason:
        return Check(check.name, Outcome.SKIP, str(reason))
    except NotDoneError as reason:
        return Check(check.name, Outcome.NOT_DONE, str(reason))
    except FINDINGS as error:
        return Check(check.name, Outcome.FAIL, str(error))
