"""The one object that prints, in every mode: results on stdout, all else on stderr."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from conv2linear.cli.document import SCHEMA_VERSION
from conv2linear.cli.format import format_text
from conv2linear.cli.output import Output, key_value_table
from conv2linear.errors import CheckFailedError, Conv2LinearError, OutputError
from tests.support.schemas import assert_follows_schema

MODES: dict[str, dict[str, bool]] = {
    "human": {},
    "json": {"json": True},
    "quiet": {"quiet": True},
    "debug": {"debug": True},
}
HUMAN = key_value_table(("name", "value"), ("path", "a [bold]b"))


@pytest.fixture(autouse=True)
def _plain_and_unchanged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Print without colors, and give back the handlers that a command sets."""
    monkeypatch.setenv("NO_COLOR", "1")
    handler = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        yield
    signal.signal(signal.SIGTERM, handler)


def run(error: BaseException | None, mode: str) -> int:
    """Run a command that says all it can say, then fails or succeeds; return its exit code."""
    output = Output("inspect", **MODES[mode])
    try:
        with output.running() as progress:
            progress.step("write", 2000)
            progress.warn("a [warning]\nof two lines")
            progress.advance(1000)
            if error:
                raise error
        output.result({"size": 3, "path": Path("a")}, HUMAN)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


@pytest.mark.parametrize("mode", MODES)
def test_a_result_goes_to_stdout_and_all_else_to_stderr(
    mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(None, mode) == 0
    stdout, stderr = capsys.readouterr()
    steps = "" if mode in ("json", "quiet") else "write 2.0 kB\n"
    assert stderr == f"{steps}warning: a [warning] of two lines\n"
    if mode == "json":
        expected = {"schema_version": SCHEMA_VERSION, "command": "inspect", "size": 3, "path": "a"}
        assert json.loads(stdout) == expected
        assert list(json.loads(stdout)) == list(expected)
    else:
        assert stdout == "name  value\npath  a [bold]b\n"


ERRORS: dict[str, tuple[BaseException, int, list[str]]] = {
    "of the package": (
        OutputError("no [space]", hint="free some"),
        2,
        ["error: no [space]", "hint: free some"],
    ),
    "without a hint": (Conv2LinearError("no"), 2, ["error: no"]),
    "a failed check": (CheckFailedError("differs"), 1, ["error: differs"]),
    "of the system": (
        PermissionError(errno.EACCES, "Permission denied", "/x"),
        2,
        ["error: /x: Permission denied"],
    ),
    "of the program": (
        ZeroDivisionError("division by zero"),
        2,
        [
            "error: internal error: ZeroDivisionError: division by zero",
            "hint: run again with --debug and report what it shows",
        ],
    ),
    "Ctrl-C": (
        KeyboardInterrupt(),
        130,
        ["error: interrupted", "hint: run again: it begins anew"],
    ),
    "an escape sequence": (Conv2LinearError("a\x1b[31mb\nc"), 2, [r"error: a\x1b[31mb c"]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_one_line_and_an_exit_code(
    kind: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error, code, lines = ERRORS[kind]
    assert run(error, mode) == code
    stdout, stderr = capsys.readouterr()
    if mode == "json":
        document = json.loads(stdout)
        assert_follows_schema(document)
        assert document["error"]["exit_code"] == code
        assert format_text(document["error"]["message"]) == lines[0].removeprefix("error: ")
        assert [document["error"]["hint"]] == [
            *(line.removeprefix("hint: ") for line in lines[1:]),
            None,
        ][:1]
    else:
        assert stdout == ""
    assert stderr.splitlines()[-len(lines) :] == lines
    assert ("Traceback" in stderr) == (mode == "debug")
    assert ("raise error" in stderr) == (mode == "debug")


def test_sigterm_ends_a_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    with pytest.raises(typer.Exit) as ended, output.running():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.exit_code == 143
    assert capsys.readouterr().err.startswith("error: interrupted\n")


def test_an_exit_code_of_the_command_passes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, Output(debug=True).running():
        raise typer.Exit(1)
    assert ended.value.exit_code == 1
    assert capsys.readouterr() == ("", "")


def test_json_is_strict_and_keeps_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Output("bench", json=True).result({"error": float("inf"), "name": "模型 é"}, HUMAN)
    stdout = capsys.readouterr().out
    assert "模型 é" in stdout

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    assert json.loads(stdout, parse_constant=refuse)["error"] is None


def test_a_table_shows_control_characters_and_markup_as_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output().result({}, key_value_table(("[red]a", "\x1b[0m [b]c[/b]\u202e")))
    assert capsys.readouterr().out == "[red]a  \\x1b[0m [b]c[/b]\\u202e\n"


def test_what_fails_after_the_result_adds_no_second_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Output("verify", json=True)
    output.result({"a": 1}, HUMAN)
    with pytest.raises(typer.Exit) as ended, output.running():
        raise OutputError("no report")
    assert ended.value.exit_code == 2
    stdout, stderr = capsys.readouterr()
    assert json.loads(stdout)["a"] == 1
    assert stderr == "error: no report\n"


def test_a_reader_that_has_gone_is_not_an_error_to_report() -> None:
    code = (
        "import os, sys, typer; from conv2linear.cli.output import *\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "try: Output(json=True).result({'a': 1}, '')\n"
        "except typer.Exit as ended: sys.exit(ended.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr == b""
