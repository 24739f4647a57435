"""What stands below a result: how long it took, and the command to run next."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from conv2linear.cli.format import format_command
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint
from tests.support.damage import flip_bit
from tests.support.processes import Finished, RunCli

SOURCE, OUT = "my source", "it's out"  # a shell takes neither without quotes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_checkpoint(tmp_path / SOURCE, shards=1, kernel=SMALL_KERNEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def values(done: Finished) -> dict[str, str]:
    """Return what follows each name that stands at the beginning of a line."""
    pairs = re.findall(r"^(took|next) +(.*)$", done.stdout, flags=re.MULTILINE)
    return dict(pairs)


def next_words(done: Finished) -> list[str]:
    """Return the arguments of the next command, as a shell gives them to the program."""
    words = shlex.split(values(done)["next"])
    assert words[0] == "conv2linear"
    return words[1:]


def test_each_command_leads_to_the_next_by_one_that_works_as_printed(
    folder: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    converted = run_here("convert", SOURCE, OUT)
    verified = run_here(*next_words(converted))
    assert next_words(verified) == ["push", f"./{OUT}", "ORG/NAME", "--dry-run"]
    restored = run_here("restore", OUT, "restored")
    assert "next" not in values(restored), "it is what it was"
    for done in (converted, verified, restored):
        assert done.code == 0, done.stdout + done.stderr
        assert re.fullmatch(r"\d+\.\d s", values(done)["took"])


def test_what_did_nothing_or_failed_leads_nowhere(folder: Path, run_here: RunCli) -> None:
    planned = run_here("convert", SOURCE, OUT, "--dry-run")
    assert (planned.code, values(planned)) == (0, {})
    assert run_here("convert", SOURCE, OUT, "-q").code == 0
    flip_bit(folder / OUT, "model.visual.patch_embed.proj.weight")
    failed = run_here("verify", OUT, "--source", SOURCE)
    assert failed.code == 1
    assert values(failed).keys() == {"took"}


def test_a_command_names_paths_as_paths() -> None:
    assert format_command("verify", Path("-x"), Path("../a b")) == (
        "conv2linear verify ./-x '../a b'"
    )
    assert format_command("verify", "org/name", Path("/a")) == "conv2linear verify org/name /a"
    assert format_command("verify", Path("a\nb")) is None, "a terminal cannot show it"
