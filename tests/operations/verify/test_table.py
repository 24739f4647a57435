"""The table of checks says what each one needs, and what it comes to where that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv2linear import Check
from conv2linear.equivalence.outcome import Step
from conv2linear.errors import CheckFailedError, HubError
from conv2linear.operations.verify.named_check import NamedCheck, run_check
from conv2linear.operations.verify.needs import NotAskedForError, SkippedError
from conv2linear.operations.verify.result import Outcome
from conv2linear.operations.verify.subject import Engine, Subject, open_subject
from conv2linear.operations.verify.verify import CHECKS
from conv2linear.sources.folder import Folder


def test_a_check_finds_something_fails_or_is_skipped(linear: Path) -> None:
    def run(error: Exception | None) -> Check | None:
        def check(_: Subject) -> str:
            if error is not None:
                raise error
            return "found"

        return run_check(NamedCheck("a check", check), open_subject(linear))

    assert run(None) == Check("a check", Outcome.PASS, "found")
    assert run(CheckFailedError("wrong")) == Check("a check", Outcome.FAIL, "wrong")
    assert run(SkippedError("why")) == Check("a check", Outcome.SKIP, "why")
    assert run(NotAskedForError()) is None
    with pytest.raises(HubError):  # the check could not be made: that is not an outcome
        run(HubError("no answer"))


def test_the_table_names_all_that_a_check_needs(tmp_path: Path) -> None:
    """On a subject with nothing in it, the table alone decides what is not made, and why."""
    empty = Subject(Folder(tmp_path))
    made = {check.name: run_check(check, empty) for check in CHECKS}
    not_made = {name for name, check in made.items() if check is None}
    engines = {f"engine {engine}" for engine in Engine}
    assert not_made == {"source", "checksums", *engines}
    for check in CHECKS:
        reasons = []
        for need in check.needs:
            try:
                need(empty)
            except (SkippedError, NotAskedForError) as reason:
                reasons.append(str(reason))
        found = made[check.name]
        if found is not None:
            assert found.outcome is Outcome.SKIP
            assert not reasons or found.detail == reasons[0]


def test_the_steps_of_the_equivalence_check_are_checks_of_the_same_name() -> None:
    assert set(Step) <= {check.name for check in CHECKS}
