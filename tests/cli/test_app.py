"""Usage errors, help and version of the command line."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.models import OptionInfo

import conv2linear
from conv2linear.cli.app import app, run
from conv2linear.cli.document import SCHEMA_VERSION
from conv2linear.cli.format import format_bytes, format_text
from conv2linear.cli.help import GROUPS
from conv2linear.cli.versions import read_build
from tests.support.processes import RunCli

COMMANDS = [command.name or "" for command in app.registered_commands]
USAGE_ERRORS = {
    "an unknown command": (["nothing"], ["No such command 'nothing'"], "conv2linear --help"),
    "an unknown option": (
        ["inspect", "a", "--nothing"],
        ["No such option", "--nothing"],  # Typer has written more than one thing between them
        "conv2linear inspect --help",
    ),
    "a missing argument": (
        ["convert", "a"],
        ["Missing argument 'OUT'"],
        "conv2linear convert --help",
    ),
    "too many arguments": (
        ["inspect", "a", "b"],
        ["unexpected extra argument"],
        "conv2linear inspect --help",
    ),
    "a number that is not one": (
        ["convert", "a", "b", "--workers", "x"],
        ["Invalid value for '--workers'"],
        "conv2linear convert --help",
    ),
    "no workers": (
        ["convert", "a", "b", "--workers", "0"],
        ["Invalid value for '--workers'"],
        "conv2linear convert --help",
    ),
}


@pytest.mark.parametrize("kind", USAGE_ERRORS)
def test_a_usage_error_is_one_line_and_names_the_help(kind: str, run_here: RunCli) -> None:
    arguments, words, hint = USAGE_ERRORS[kind]
    done = run_here(*arguments)
    done.assert_refused(*words)
    assert done.stderr.splitlines()[-1] == f"hint: {hint}"


def test_the_bare_command_prints_the_help_and_exits_with_2(run_here: RunCli) -> None:
    done = run_here()
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == run_here("--help").stdout


def test_help_lists_the_commands_and_the_exit_codes(run_here: RunCli) -> None:
    text = run_here("--help").stdout
    assert all(f" {command} " in text for command in COMMANDS)
    assert "0 done, 1 a check failed, 2 could not do it, 130 interrupted" in text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_its_width_and_cuts_nothing_off(
    command: str, width: int, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = run_here(*command.split(), "--help").stdout
    body, _, examples = text.partition("Examples:")
    assert [line for line in body.splitlines() if len(line) > width] == []
    assert [line for line in examples.splitlines() if len(line) > 80] == []  # to be pasted
    assert "..." not in text.replace("[ARGS]...", "")
    assert "…" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_options_stand_in_groups_and_a_command_has_an_example(
    command: str, run_here: RunCli
) -> None:
    text = run_here(command, "--help").stdout
    titles = re.findall(r"^(\S.*):$", text, re.M)
    assert titles == [name for name in ("Arguments", *GROUPS, "Help") if name in titles]
    assert "Report" in titles
    examples = re.findall(r"^    (conv2linear .*)$", text, re.M)
    assert examples
    assert all(example.split()[1] == command for example in examples)


def test_help_says_what_a_hard_link_means(run_here: RunCli) -> None:
    text = " ".join(run_here("convert", "--help").stdout.split())
    assert "share one inode" in text


def test_the_version_names_all_that_a_bug_report_needs(run_here: RunCli) -> None:
    lines = run_here("--version").stdout.splitlines()
    assert lines[0] == f"conv2linear {conv2linear.__version__}"
    assert lines[1].startswith(f"Python {platform.python_version()}, {platform.system()}")
    said = {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
    for package in ("torch", "safetensors", "huggingface_hub", "hf_xet", "transformers"):
        assert said[package].split(",")[0] == importlib.metadata.version(package)
    assert {"vllm", "sglang"} <= said.keys()


def test_the_version_says_what_torch_was_built_for(run_here: RunCli) -> None:
    import torch

    line = next(x for x in run_here("--version").stdout.splitlines() if x.startswith("torch "))
    assert ("CUDA " + (torch.version.cuda or "")).strip() in line
    assert (", without CUDA" in line) == (torch.version.cuda is None)


def test_the_build_of_torch_is_read_from_its_file(tmp_path: Path) -> None:
    text = "__version__ = '2.11.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
    (tmp_path / "version.py").write_text(text)
    assert read_build(tmp_path) == {"version": "2.11.0+cu130", "cuda": "13.0"}
    assert read_build(tmp_path / "nowhere") == {} == read_build(None)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["conver"], ["convert"]),
        (["convert", "a", "b", "--har"], ["--hardlink"]),
        (["convert", "a", "b", "--for", "vllm,s"], ["vllm,sglang"]),
        (["engines", "tr"], ["transformers"]),
        (["verify", "a", "--engine", "v"], ["vllm"]),
    ],
)
def test_a_shell_completes_commands_options_and_loaders(
    words: list[str],
    completed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("_CONV2LINEAR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["conv2linear", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit):
        run([])
    assert capsys.readouterr().out.split() == completed


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
    expected = {"schema_version": SCHEMA_VERSION, "command": "engines", "engines": engines}
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
