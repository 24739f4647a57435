"""Names and texts of a checkpoint are shown, and never obeyed or run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.checkpoints import INDEX, WEIGHT
from tests.support.damage import (
    edit_json,
)
from tests.support.processes import Refuse, RunCli


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\x07", "\u202egpj.exe"])
def test_a_file_name_that_a_terminal_would_obey(
    checkpoint: Path, refuse: Refuse, name: str
) -> None:
    (checkpoint / name).touch()
    done = refuse("not a regular file")
    assert done.stderr.isprintable() or set(done.stderr) - {"\n"} <= set(map(chr, range(32, 127)))


def test_a_file_name_that_is_not_utf8(checkpoint: Path, refuse: Refuse) -> None:
    (Path(os.fsdecode(os.fsencode(checkpoint) + b"/\xff"))).touch()
    refuse("not a regular file")


@pytest.mark.parametrize("text", ["\x1b[2J\x1b[31mred", "a\nb", "[bold]x[/bold]", "[/]", "\x9b2J"])
def test_text_of_a_checkpoint_is_shown_and_not_obeyed(
    checkpoint: Path, refuse: Refuse, text: str
) -> None:
    """In an error: a shard's name, which is hostile in a place where it is quoted least."""
    edit_json(checkpoint / INDEX, lambda i: i["weight_map"].update({WEIGHT: f"{text}.safetensors"}))
    done = refuse(INDEX)
    assert "\x1b" not in done.stderr
    assert "\x9b" not in done.stderr
    if text.startswith("["):
        assert text in done.stderr


def test_code_of_a_checkpoint_never_runs(
    checkpoint: Path, out: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    (checkpoint / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (checkpoint / "safetensors.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit_json(
        checkpoint / "config.json",
        lambda c: c.update(auto_map={"AutoConfig": "modeling_evil.EvilConfig"}),
    )
    (checkpoint / "pytorch_model.bin").write_bytes(b"cos\n_exit\n(I77\ntR.")
    assert run_cli("inspect", ".", cwd=checkpoint).code == 0
    assert run_cli("convert", checkpoint, out).code == 0
    assert not (tmp_path / "ran").exists()
    assert (out / "pytorch_model.bin").read_bytes() == b"cos\n_exit\n(I77\ntR."
