"""Where stdout or stderr cannot be written, or cannot show a character, there is no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conv2linear import verify
from tests.support.checkpoints import write_checkpoint
from tests.support.processes import Finished

KERNEL = (8, 3, 2, 14, 14)
Shell = Callable[..., Finished]


@pytest.fixture
def shell(cli_environment: dict[str, str], tmp_path: Path) -> Shell:
    """Return a function that runs the command line in a shell, with redirections behind it."""

    def run(arguments: str, redirection: str = "", **variables: str) -> Finished:
        command = f"'{sys.executable}' -m conv2linear {arguments} {redirection}"
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            cwd=tmp_path,
            env=cli_environment | {"PYTHONPATH": str(Path.cwd()), **variables},
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "模型", kernel=KERNEL, shards=1, filler_bytes=8)


COMMANDS = ["inspect 模型", "inspect 模型 --json", "engines", "--help", "--version"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("redirection", "words"),
    [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
    ids=["full", "closed"],
)
@pytest.mark.usefixtures("model")
def test_a_result_that_cannot_be_printed_is_one_line_and_exit_code_2(
    command: str, redirection: str, words: str, shell: Shell
) -> None:
    done = shell(command, redirection)
    assert done.code == 2
    assert done.stderr == f"error: standard output cannot be written: {words}\n"


@pytest.mark.usefixtures("model")
def test_a_reader_that_has_gone_is_told_nothing(shell: Shell) -> None:
    done = shell("inspect 模型", "| true; exit ${PIPESTATUS[0]}")
    assert (done.code in (0, 2), done.stderr) == (True, "")


@pytest.mark.parametrize(
    ("redirection", "code"),
    [("2> /dev/full", 0), ("2>&-", 0), ("<&- 2>&-", 0), ("2>&- >&-", 2), ("<&- >&- 2>&-", 2)],
)
def test_messages_that_cannot_be_printed_change_no_exit_code(
    redirection: str, code: int, shell: Shell, model: Path, tmp_path: Path
) -> None:
    assert shell("inspect nowhere", redirection).code == 2
    assert shell("inspect 模型", redirection).code == code
    assert shell("convert 模型 out --device cpu", redirection).code == code
    out = tmp_path / "out"
    assert verify(out, source=model, device="cpu").passed  # nobody printed into its files


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "latin-1", "C", "POSIX"],
)
@pytest.mark.usefixtures("model")
def test_a_character_that_the_encoding_lacks_is_an_escape(
    variables: dict[str, str], shell: Shell
) -> None:
    done = shell("inspect 模型 --json", **variables)
    assert done.code == 0, done.stderr
    is_decoded = "PYTHONUTF8" not in variables
    bytes_alone = "模型".encode().decode("ascii", "surrogateescape")
    assert json.loads(done.stdout)["source"] == ("模型" if is_decoded else bytes_alone)
    assert shell("inspect 模型", **variables).code == 0
    shell("inspect 不存在", **variables).assert_refused("no such folder")


def test_a_name_that_is_not_utf_8_is_printed_as_json(shell: Shell, model: Path) -> None:
    model.rename(os.fsdecode(os.fsencode(model.parent) + b"/\xff"))
    done = shell("inspect $'\\xff' --json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["source"] == "\udcff"
