"""The check and the writing go on at a time, and end together, whichever of them fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.nn import functional

import conv2linear
from conv2linear import CheckFailedError, SourceChangedError, convert
from conv2linear.progress import NoProgress
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint
from tests.support.contents import snapshot
from tests.support.progress import AtFirstBytes, interrupt_run
from tests.support.staging import staging_root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", shards=3, kernel=SMALL_KERNEL)


@pytest.fixture
def no_equal_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every check fail, as if the layers were not the same map."""
    linear = functional.linear

    def other(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return linear(patches, weight * 2, bias)

    monkeypatch.setattr(functional, "linear", other)


class Meeting(NoProgress):
    """Lets the check begin when bytes are written, and the bytes go on when `checked` is set.

    Neither would come where one had to end before the other begins. `stays_s` is how long to wait.
    """

    def __init__(self, *, stays_s: float = 30) -> None:
        self.stays_s = stays_s
        self.writing, self.checked = threading.Event(), threading.Event()
        self.written_first: list[bool] = []

    @contextmanager
    def beside(
        self, name: str, total: int | None = None, unit: str = "bytes"
    ) -> Iterator[Callable[[int], None]]:
        if name == "check":
            self.written_first.append(self.writing.wait(30))
        yield lambda count: None
        if name == "check":
            self.checked.set()

    def advance(self, count_bytes: int) -> None:
        self.writing.set()
        self.checked.wait(self.stays_s)


def test_files_are_written_while_the_check_runs(source: Path, out: Path) -> None:
    meeting = Meeting()
    convert(source, out, device="cpu", progress=meeting)
    assert meeting.written_first == [True]
    assert conv2linear.verify(out, device="cpu").passed


def test_a_check_that_fails_stops_the_writing_and_leaves_nothing(
    source: Path, out: Path, no_equal_layer: None
) -> None:
    before = snapshot(source)
    meeting = Meeting()
    with pytest.raises(CheckFailedError, match="is not the same map"):
        convert(source, out, device="cpu", workers=1, progress=meeting)
    assert meeting.written_first == [True]
    assert not any(out.parent.iterdir())
    assert snapshot(source) == before


def test_where_check_and_writing_both_fail_it_is_always_the_check_that_is_told(
    source: Path, out: Path, no_equal_layer: None
) -> None:
    class Full(Meeting):
        def advance(self, count_bytes: int) -> None:
            self.writing.set()
            raise OSError(28, "No space left on device")

    with pytest.raises(CheckFailedError, match="is not the same map"):
        convert(source, out, device="cpu", progress=Full())
    assert not any(out.parent.iterdir())


def test_writing_that_fails_while_the_check_runs_is_told_when_that_has_ended(
    source: Path, out: Path
) -> None:
    def change() -> None:
        for path in source.glob("*.safetensors"):
            path.write_bytes(path.read_bytes() + b"\0")

    class Changing(Meeting):
        def advance(self, count_bytes: int) -> None:
            change()
            self.writing.set()

    with pytest.raises(SourceChangedError, match="changed while it was read"):
        convert(source, out, device="cpu", progress=Changing())
    assert not out.exists()


def test_an_interruption_while_both_go_on_leaves_no_output_and_no_thread(
    source: Path, out: Path
) -> None:
    before = threading.active_count()

    class Interrupted(Meeting):
        @contextmanager
        def beside(
            self, name: str, total: int | None = None, unit: str = "bytes"
        ) -> Iterator[Callable[[int], None]]:
            if name == "check":
                self.writing.wait(30)
                interrupt_run()
            yield lambda count: None

    for progress in (Interrupted(stays_s=0.1), AtFirstBytes("write", interrupt_run)):
        with pytest.raises(KeyboardInterrupt):
            convert(source, out, device="cpu", progress=progress)
        assert not out.exists()
        assert threading.active_count() == before
    convert(source, out, device="cpu")
    assert not staging_root(out).exists()


def test_the_command_ends_with_1_where_both_fail(
    source: Path, out: Path, no_equal_layer: None, run_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", fail_to_sync)
    done = run_here("convert", source, out, "--device", "cpu")
    done.assert_refused("is not the same map", code=1)
    assert not any(out.parent.iterdir())


def fail_to_sync(descriptor: int) -> None:
    raise OSError(5, "Input/output error")
