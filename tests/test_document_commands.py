"""The command lines in the README and the pages of docs/ are known, and run in their order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from conv2linear import installation
from conv2linear.cli.app import app
from tests.support.checkpoints import write_checkpoint
from tests.support.processes import RunCli
from tests.test_documentation import CONSOLE_BLOCKS, DOCUMENTS


def commands(block: str) -> list[list[str]]:
    """Return the words of each command of a block; its comments and its output are left out."""
    joined = block.replace("\\\n", " ")
    return [
        shlex.split(line[2:], comments=True) for line in joined.splitlines() if line[:2] == "$ "
    ]


OWN = [
    (name, words)
    for name, block in CONSOLE_BLOCKS
    if "xargs" not in block
    for words in commands(block)
    if words[0] == "conv2linear"
]


@pytest.mark.parametrize(("name", "words"), OWN, ids=lambda each: str(each))
def test_the_command_line_knows_what_a_document_has_it_do(name: str, words: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    with group.make_context("conv2linear", words[1:]) as context:
        command = group.get_command(context, words[1])
        assert command is not None, name
        command.make_context(words[1], words[2:], parent=context)


def test_other_commands_in_documents_are_known() -> None:
    """What runs elsewhere: the scripts, which have tests of their own, and other tools."""
    others = [
        " ".join(words)
        for _, block in CONSOLE_BLOCKS
        if "xargs" not in block
        for words in commands(block)
        if words[0] != "conv2linear"
    ]
    for line in others:
        first = line.split()[0]
        assert first.startswith("scripts/") or line in {
            installation.FROM_CLONE,
            "hf jobs uv run --flavor cpu-upgrade --secrets HF_TOKEN scripts/convert_and_push.py "
            "zai-org/GLM-4.5V my-org/GLM-4.5V",
            "python scripts/convert_and_push.py zai-org/GLM-4.5V my-org/GLM-4.5V",
            "uv run --script scripts/convert_and_push.py my-org/my-model my-org/my-model "
            "--report report.html",
        }, line


def needs_more(words: list[str]) -> bool:
    """Tell whether a command needs the Hub, an engine, or longer than a test may take.

    A folder that begins with `./` is the reader's own.
    """
    of_hub = any(re.fullmatch(r"[\w-]+/[\w.-]+", word) for word in words)
    is_own = any(word.startswith("./") for word in words)
    return of_hub or is_own or "--engine" in words or "--run" in words or words[1] == "bench"


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if any(n == name for n, _ in OWN)])
def test_the_commands_of_a_document_run_one_after_the_other(
    name: str, tmp_path: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with the checkpoint `model`, and with `linear`, which is made from it."""
    write_checkpoint(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    of_document = [words for each, words in OWN if each == name and not needs_more(words)]
    makes_linear = any(words[1] == "convert" and "linear" in words for words in of_document)
    if not makes_linear and any("linear" in words for words in of_document):
        assert run_here("convert", "model", "linear").code == 0
    for words in of_document:
        done = run_here(*words[1:])
        assert done.code == 0, (words, done.stderr)
