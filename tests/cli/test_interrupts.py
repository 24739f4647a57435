"""A signal that ends a run is never lost."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from conv2linear.cli.interrupts import TerminatedError, catch_interrupts
from conv2linear.cli.progress import RichProgress

SIGNALS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: TerminatedError}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_what_code_in_between_swallows_is_raised_again(number: signal.Signals) -> None:
    """As the import of torch does, which calls Python from C."""
    with catch_interrupts() as interrupts:
        interrupts.check()
        with contextlib.suppress(BaseException):
            signal.raise_signal(number)
        for _ in range(2):
            with pytest.raises(SIGNALS[number]):
                interrupts.check()


@pytest.mark.parametrize("call", ["step", "advance", "beside"])
def test_every_kind_of_progress_ends_an_interrupted_run(call: str) -> None:
    calls = {
        "step": lambda progress: progress.step("write"),
        "advance": lambda progress: progress.advance(1),
        "beside": lambda progress: progress.beside("check").__enter__(),
    }
    with catch_interrupts() as interrupts:
        progress = RichProgress(quiet=True, check=interrupts.check)
        calls[call](progress)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            calls[call](progress)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_the_caller_ignores_stays_ignored(number: signal.Signals) -> None:
    """As `nohup` and a shell that runs something in the background have it."""
    signal.signal(number, signal.SIG_IGN)
    with catch_interrupts() as interrupts:
        signal.raise_signal(number)
        interrupts.check()


def test_afterwards_the_handlers_are_those_from_before() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with catch_interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_an_error_that_follows_from_a_signal_is_not_what_ends_the_run(
    number: signal.Signals,
) -> None:
    """As an import that goes on after it was interrupted, and finds what it has begun."""

    def import_interrupted() -> None:
        with contextlib.suppress(BaseException):
            signal.raise_signal(number)
        raise RuntimeError("already initialized")

    with pytest.raises(SIGNALS[number]), catch_interrupts():
        import_interrupted()


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="by itself"), catch_interrupts():
        raise RuntimeError("by itself")
