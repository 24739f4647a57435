"""An OUT that exists, or overlaps with the source, is refused and left as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.contents import snapshot
from tests.support.processes import RunCli


@pytest.mark.parametrize("kind", ["folder", "checkpoint", "file", "broken link"])
def test_an_output_that_exists(checkpoint: Path, out: Path, run_here: RunCli, kind: str) -> None:
    if kind == "folder":
        out.mkdir()
    elif kind == "checkpoint":
        shutil.copytree(checkpoint, out)
    elif kind == "file":
        out.touch()
    else:
        out.symlink_to("nowhere")
    before = snapshot(out.parent)
    done = run_here("convert", checkpoint, out)
    done.assert_refused(str(out), "exists")
    assert "--force" in done.stderr
    assert snapshot(out.parent) == before
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("kind", ["other folder", "file", "link to a checkpoint"])
def test_force_never_replaces_what_is_not_a_checkpoint(
    checkpoint: Path, out: Path, tmp_path: Path, run_here: RunCli, kind: str
) -> None:
    if kind == "other folder":
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
    elif kind == "file":
        out.write_text("years of work")
    else:
        out.symlink_to(shutil.copytree(checkpoint, tmp_path / "precious"))
    before = snapshot(tmp_path)
    done = run_here("convert", checkpoint, out, "--force")
    done.assert_refused(str(out), "not a checkpoint")
    assert snapshot(tmp_path) == before
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("where", ["equal", "inside", "deep inside", "around", "through a link"])
def test_an_output_that_is_not_apart_from_the_source(
    checkpoint: Path, run_here: RunCli, where: str, force: tuple[str, ...]
) -> None:
    link = checkpoint.parent / "link"
    link.symlink_to(checkpoint)
    (checkpoint / "sub").mkdir()
    out = {
        "equal": checkpoint,
        "inside": checkpoint / "linear",
        "deep inside": checkpoint / "sub" / "linear",
        "around": checkpoint.parent,
        "through a link": link / "linear",
    }[where]
    before = list(checkpoint.parent.rglob("*")), snapshot(checkpoint)
    run_here("convert", checkpoint, out, *force).assert_refused(str(out), "source")
    assert (list(checkpoint.parent.rglob("*")), snapshot(checkpoint)) == before


def test_an_output_in_a_folder_that_does_not_exist(
    checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    done = run_here("convert", checkpoint, tmp_path / "a" / "b")
    done.assert_refused(str(tmp_path / "a"), "is not there")
    assert "mkdir -p" in done.stderr
    assert not (tmp_path / "a").exists()


def test_an_output_below_a_file(checkpoint: Path, run_here: RunCli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run_here("convert", checkpoint, tmp_path / "file" / "b").assert_refused("not a folder")
