"""Usage errors, help and version of the command line."""

from __future__ import annotations

from typing import get_type_hints

import pytest
from typer.models import OptionInfo

import conv2linear
from conv2linear.cli.app import app
from conv2linear.cli.format import format_bytes, format_text
from tests.support.processes import RunCli

COMMANDS = [command.name or "" for command in app.registered_commands]
USAGE_ERRORS = {
    "an unknown command": (["nothing"], "No such command 'nothing'", "conv2linear --help"),
    "an unknown option": (
        ["inspect", "a", "--nothing"],
        "No such option: --nothing",
        "conv2linear inspect --help",
    ),
    "a missing argument": (
        ["convert", "a"],
        "Missing argument 'OUT'",
        "conv2linear convert --help",
    ),
    "too many arguments": (
        ["inspect", "a", "b"],
        "unexpected extra argument",
        "conv2linear inspect --help",
    ),
    "a number that is not one": (
        ["convert", "a", "b", "--workers", "x"],
        "Invalid value for '--workers'",
        "conv2linear convert --help",
    ),
    "no workers": (
        ["convert", "a", "b", "--workers", "0"],
        "Invalid value for '--workers'",
        "conv2linear convert --help",
    ),
}


@pytest.mark.parametrize("kind", USAGE_ERRORS)
def test_a_usage_error_is_one_line_and_names_the_help(kind: str, run_here: RunCli) -> None:
    arguments, message, hint = USAGE_ERRORS[kind]
    done = run_here(*arguments)
    done.assert_refused(message)
    assert done.stderr.splitlines()[-1] == f"hint: {hint}"


def test_the_version_is_that_of_the_package(run_here: RunCli) -> None:
    assert run_here("--version").stdout == f"conv2linear {conv2linear.__version__}\n"


def test_help_lists_the_commands_and_the_exit_codes(run_here: RunCli) -> None:
    text = run_here("--help").stdout
    assert all(f" {command} " in text for command in COMMANDS)
    assert "0 done, 1 a check failed, 2 could not do it, 130 interrupted" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_options_that_all_share(command: str, run_here: RunCli) -> None:
    text = run_here(command, "--help").stdout
    assert all(option in text for option in ("--json", "--quiet", "-q", "--debug"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_name_of_its_own(command: str) -> None:
    """Releases of typer differ in the name that they make up: 0.27 took it from the metavar."""
    (callback,) = (each.callback for each in app.registered_commands if each.name == command)
    assert callback is not None
    hints = get_type_hints(callback, include_extras=True)
    given = {  # the first name stands where a default would, outside of Annotated
        name: each.default
        for name, hint in hints.items()
        for each in getattr(hint, "__metadata__", ())
        if isinstance(each, OptionInfo)
    }
    assert given.keys() >= {"json", "quiet", "debug"}
    assert [name for name, first in given.items() if not str(first).startswith("--")] == []


def test_engines_prints_what_the_function_returns(run_here: RunCli) -> None:
    engines = [status.to_dict() for status in conv2linear.installed_engines()]
    expected = {"schema_version": 1, "command": "engines", "engines": engines}
    assert run_here("engines", "--json").json == expected
    human = run_here("engines").stdout
    assert all(engine["name"] in human for engine in engines)
    run_here("engines", "nothing").assert_refused("engine 'nothing' is not known")


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (216_000_000_000, "216.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_are_in_powers_of_1000(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


def test_text_from_outside_is_one_line_without_control_characters() -> None:
    assert format_text(" a\n  b\r\nc ") == "a b c"
    assert format_text("\x1b]0;x\x07\u202e模型") == r"\x1b]0;x\x07\u202e模型"
