"""The progress that draws: bars on a terminal, lines elsewhere, warnings always."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import conv2linear
from conv2linear import RichProgress


def console(*, terminal: bool, jupyter: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    made = Console(
        file=file, force_terminal=terminal, force_jupyter=jupyter, width=100, highlight=False
    )
    return made, file


def wait_for(text: str, file: io.StringIO) -> None:
    deadline = time.monotonic() + 10
    while text not in file.getvalue():
        assert time.monotonic() < deadline, file.getvalue()
        time.sleep(0.01)


def drawn(progress: RichProgress) -> None:
    with progress:
        progress.step("open")
        progress.step("write", 4_000_000)
        progress.advance(1_000_000)
        progress.warn("mind [this]")
        progress.advance(3_000_000)


def test_elsewhere_it_prints_a_line_where_a_step_that_moves_bytes_begins_and_ends() -> None:
    made, file = console(terminal=False)
    drawn(RichProgress(made))
    begin, warning, end = file.getvalue().splitlines()
    assert (begin, warning) == ("write 4.0 MB", "warning: mind [this]")
    assert re.fullmatch(r"write 4\.0 MB: done in \d+\.\d s", end)


def test_elsewhere_it_says_now_and_then_how_far_everything_is() -> None:
    made, file = console(terminal=False)
    with RichProgress(made, line_s=0.05) as progress:
        progress.step("write", 4_000_000)
        progress.advance(1_000_000)
        with progress.beside("check", 2000, "patches") as on_patches:
            on_patches(1000)
            wait_for("write 1.0 MB/4.0 MB, 0:00:00, 0:00:00 left\n", file)
            wait_for("check 1,000/2,000 patches, 0:00:00, 0:00:00 left\n", file)
        progress.step("flush")
        wait_for("flush: 0:00:00\n", file)
    printed = file.getvalue()
    assert printed.startswith("write 4.0 MB\ncheck 2,000 patches\n")
    assert re.findall("(.*): done in", printed) == ["flush"], "the others were not when they ended"
    time.sleep(0.1)
    assert file.getvalue() == printed, "nothing is told behind the end"


def test_elsewhere_what_cannot_be_counted_is_told_once_it_has_taken_long() -> None:
    made, file = console(terminal=False)
    with RichProgress(made, line_s=0.05) as progress:
        progress.step("open")
        progress.step("engine vllm")
        wait_for("engine vllm: 0:00:00\n", file)
    assert re.fullmatch(
        r"(engine vllm: 0:00:00\n)+engine vllm: done in \d\.\d s\n", file.getvalue()
    )


def test_elsewhere_what_fails_is_not_told_to_be_done() -> None:
    made, file = console(terminal=False)
    progress = RichProgress(made, line_s=0.05)
    with contextlib.suppress(ValueError), progress:
        progress.step("engine vllm")
        with progress.beside("check", 10, "patches") as on_patches:
            on_patches(10)
            wait_for("engine vllm: 0:00:00\n", file)
            raise ValueError
    assert "done" not in file.getvalue()


@pytest.mark.parametrize("again", [False, True])
def test_a_step_is_not_shown_beside_the_work_that_it_is(again: bool) -> None:
    made, file = console(terminal=False)
    with RichProgress(made, line_s=0.05) as progress:
        progress.step("check")
        wait_for("check: 0:00:00\n", file)
        with progress.beside("check", 10, "patches"):
            if again:
                progress.step("write", 5)
                progress.step("check")
            wait_for("check 0/10 patches", file)
            before = file.getvalue().count("check: ")
            time.sleep(0.1)
            assert file.getvalue().count("check: ") == before
    assert "check: done" not in file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_bars_side_by_side_have_their_units_and_take_the_width_of_the_terminal(width: int) -> None:
    file = io.StringIO()
    made = Console(file=file, force_terminal=True, width=width, height=10, highlight=False)
    with RichProgress(made) as progress:
        progress.step("write", 4_000_000_000)
        with progress.beside("check", 2000, "patches") as on_patches:
            progress.advance(1_000_000_000)
            on_patches(500)
            wait_for("500/2,000 patches", file)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()))
    written = next(line for line in reversed(lines) if "1.0 GB/4.0 GB" in line)
    checked = next(line for line in reversed(lines) if "500/2,000 patches" in line)
    for line in (written, checked):
        assert width - 15 < len(line.rstrip()) <= width
        assert "0:00:00" in line


def test_on_a_terminal_it_draws_a_bar_and_leaves_only_the_warning() -> None:
    made, file = console(terminal=True)
    drawn(RichProgress(made))
    text = file.getvalue()
    assert "open" in text
    assert "write" in text
    assert "/4.0 MB" in text
    assert "━" in text
    assert "mind [this]" in text
    assert text.rindex("\x1b[2K") > text.rindex("write"), "the bar is erased at the end"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "and the cursor comes back"


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_prints_warnings_only(terminal: bool) -> None:
    made, file = console(terminal=terminal)
    drawn(RichProgress(made, quiet=True))
    assert file.getvalue().count("\n") == 1
    assert "mind [this]" in file.getvalue()
    assert "write" not in file.getvalue()


def test_an_error_inside_ends_the_bar() -> None:
    made, file = console(terminal=True)
    with contextlib.suppress(ValueError), RichProgress(made) as progress:
        progress.step("write", 10)
        raise ValueError
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1


def test_a_notebook_without_ipywidgets_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shown: list[str] = []
    made, _ = console(terminal=False, jupyter=True)
    monkeypatch.setattr(made, "print", lambda text, **options: shown.append(text))
    drawn(RichProgress(made))
    assert shown[0] == "write 4.0 MB"


def test_it_follows_a_conversion(checkpoint: Path, tmp_path: Path) -> None:
    made, file = console(terminal=False)
    with RichProgress(made) as progress:
        conv2linear.convert(checkpoint, tmp_path / "out", device="cpu", progress=progress)
    assert "write " in file.getvalue()


def test_it_draws_on_stderr_unless_told_otherwise() -> None:
    code = (
        "import conv2linear\n"
        "with conv2linear.RichProgress() as progress:\n"
        "    progress.step('write', 1000)\n"
        "    progress.warn('mind this')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "write 1.0 kB\nwarning: mind this\n"
