"""However a run ends, the result or one line that says why not is printed, and nothing beside."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from conv2linear.errors import Conv2LinearError
from conv2linear.files.disk_errors import read_errors, write_errors
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint
from tests.support.processes import run_python

# Ctrl-C, and once more as soon as the first line about it is printed.
INTERRUPTED_TWICE = """
import os, signal, sys
from conv2linear.cli.app import run
from conv2linear.cli.progress import RichProgress

class Impatient:
    encoding = "utf-8"

    def write(self, text):
        if text.strip():
            os.kill(os.getpid(), signal.SIGINT)
        return sys.__stderr__.write(text)

    def flush(self):
        sys.__stderr__.flush()

    def isatty(self):
        return False

def interrupt(self, name, total_bytes=None):
    sys.stderr = Impatient()
    os.kill(os.getpid(), signal.SIGINT)

RichProgress.step = interrupt
sys.exit(run(sys.argv[1:]))
"""

# A library in C or Rust that writes to the file descriptor of stdout, as a logger may.
TALKATIVE = """
import os, sys
from conv2linear.cli import main
from conv2linear.cli.progress import RichProgress

step = RichProgress.step

def talk(self, name, total_bytes=None):
    os.write(1, b"from a library\\n")
    step(self, name, total_bytes)

RichProgress.step = talk
main()
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", kernel=SMALL_KERNEL, shards=1, filler_bytes=8)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_second_interruption_does_not_silence_what_is_said_of_the_first(
    model: Path, options: tuple[str, ...], cli_environment: dict[str, str]
) -> None:
    done = run_python(INTERRUPTED_TWICE, "inspect", model, *options, env=cli_environment)
    assert done.code == 130, done.stderr
    assert "error: interrupted" in done.stderr
    assert "hint: run again" in done.stderr
    assert "Traceback" not in done.stderr
    if options:
        assert json.loads(done.stdout)["error"]["exit_code"] == 130


def test_what_a_library_prints_does_not_stand_in_the_result(
    model: Path, cli_environment: dict[str, str]
) -> None:
    done = run_python(TALKATIVE, "inspect", model, "--json", env=cli_environment)
    assert done.code == 0, done.stderr
    assert done.json["command"] == "inspect"
    assert "from a library" in done.stderr


@pytest.mark.parametrize("columns", ["0", "-5", "", "wide"])
def test_a_width_that_is_none_hides_no_result(
    model: Path, columns: str, cli_environment: dict[str, str]
) -> None:
    environment = cli_environment | {"COLUMNS": columns, "TERM": "dumb"}
    done = run_python("from conv2linear.cli import main\nmain()", "inspect", model, env=environment)
    assert done.code == 0, done.stderr
    assert "patch_embed.proj.weight" in done.stdout


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "on this machine"), (errno.EFBIG, "ulimit -f")],
)
@pytest.mark.parametrize("errors", [read_errors, write_errors])
def test_a_limit_that_was_reached_is_named(
    number: int, words: str, errors: Callable[[Path], AbstractContextManager[None]]
) -> None:
    with pytest.raises(Conv2LinearError) as found, errors(Path("model.safetensors")):
        raise OSError(number, os.strerror(number))
    assert found.value.hint is not None
    assert words in found.value.hint
