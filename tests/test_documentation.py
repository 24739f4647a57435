"""The README says what is there, and nothing that is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import conv2linear
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.cli.app import app
from tests.support.processes import RunCli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [command.name or "" for command in app.registered_commands]
OF_OTHER_TOOLS = {"--flavor", "--secrets", "--runs", "--seed"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`conv2linear {command}" in README


def test_every_option_in_the_readme_exists(run_here: RunCli) -> None:
    existing = set()
    for command in COMMANDS:
        done = run_here(command, "--help")
        assert done.code == 0
        existing |= set(re.findall(r"--[a-z][a-z-]*", done.stdout))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) - OF_OTHER_TOOLS
    assert named <= existing | {"--help"}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_model_type_is_in_the_readme(model_type: str) -> None:
    assert f"`{model_type}`" in README


def test_every_script_in_the_readme_is_there() -> None:
    scripts = set(re.findall(r"scripts/[\w./-]+\w", README))
    assert scripts
    assert [name for name in sorted(scripts) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", conv2linear.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(conv2linear, name)


def test_python_in_the_readme_uses_names_that_exist() -> None:
    for name in re.findall(r"conv2linear\.([A-Za-z_0-9]+)", README):
        assert name in (*conv2linear.__all__, "json", "engines"), name
