"""Who gives no progress hears warnings all the same, at the line that called the package."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

import conv2linear
from conv2linear.errors import Conv2LinearWarning
from conv2linear.progress import NoProgress, RecordedProgress


class Listener:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def step(self, name: str, total_bytes: int | None = None) -> None:
        self.told.append((name, total_bytes))

    def advance(self, count_bytes: int) -> None:
        self.told.append(count_bytes)

    def warn(self, message: str) -> None:
        self.told.append(message)

    def beside(
        self, name: str, total: int | None = None, unit: str = "bytes"
    ) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(lambda count: None)


def test_without_progress_a_warning_names_the_line_that_called() -> None:
    with pytest.warns(Conv2LinearWarning, match="hear this") as caught:
        NoProgress().warn("hear this")
    assert caught[0].filename == __file__


def test_a_recorded_progress_passes_each_warning_on_once_and_keeps_it() -> None:
    listener = Listener()
    recorded = RecordedProgress(listener)
    recorded.step("write", 5)
    recorded.advance(3)
    recorded.warn("first")
    recorded.warn_all(["second", "first"])
    assert listener.told == [("write", 5), 3, "first", "second"]
    assert recorded.warnings == ("first", "second")


def test_a_warning_is_recorded_even_if_the_callers_progress_fails() -> None:
    class Broken(NoProgress):
        def warn(self, message: str) -> None:
            raise RuntimeError(message)

    recorded = RecordedProgress(Broken())
    with pytest.raises(RuntimeError, match="lost"):
        recorded.warn("lost")
    assert recorded.warnings == ("lost",)


@pytest.fixture
def broken_card(checkpoint: Path) -> Path:
    """Return a checkpoint that converts with a warning."""
    (checkpoint / "README.md").write_text("---\ntags: [a\n---\n")
    return checkpoint


def test_convert_warns_at_the_callers_line_and_in_its_result(
    broken_card: Path, tmp_path: Path
) -> None:
    with pytest.warns(Conv2LinearWarning) as caught:
        conversion = conv2linear.convert(broken_card, tmp_path / "out", device="cpu")
    assert {warning.filename for warning in caught} == {__file__}
    assert tuple(str(warning.message) for warning in caught) == conversion.warnings
    assert any("not valid YAML" in message for message in conversion.warnings)


def test_a_progress_gets_the_warnings_instead(broken_card: Path, tmp_path: Path) -> None:
    listener = Listener()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conversion = conv2linear.convert(
            broken_card, tmp_path / "out", device="cpu", progress=listener
        )
    assert [told for told in listener.told if isinstance(told, str)] == list(conversion.warnings)
    assert conversion.warnings


def test_a_plan_warns_as_its_conversion_does(broken_card: Path, tmp_path: Path) -> None:
    with pytest.warns(Conv2LinearWarning, match="not valid YAML") as caught:
        plan = conv2linear.plan_conversion(broken_card)
    assert {warning.filename for warning in caught} == {__file__}
    listener, of_the_run = Listener(), Listener()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = conv2linear.plan_conversion(broken_card, progress=listener)
        conversion = conv2linear.convert(
            broken_card, tmp_path / "out", device="cpu", progress=of_the_run
        )
    assert plan.warnings == told.warnings == conversion.warnings
    assert listener.told == [("open", None), *plan.warnings]
    assert [told for told in of_the_run.told if isinstance(told, str)] == list(plan.warnings)
