"""Arguments that name nothing, or nothing that can be done here, are refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.contents import shard_with
from tests.support.processes import Refuse, RunCli


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("./nowhere", "./nowhere: no such folder"),
        ("/nowhere/at/all", "no such folder"),
        ("~/nowhere", "no such folder"),
        ("../org/name", "no such folder"),
        ("a/b/c", "no such folder"),
        ("name", "no such folder"),
        ("", "no such folder"),
        ("org/na me", "no such folder"),
        ("org/name@", "no such folder"),
        ("org/na--me", "not a repository id"),
    ],
)
def test_a_source_that_names_nothing(
    run_cli: RunCli, out: Path, tmp_path: Path, source: str, words: str
) -> None:
    """The Hub is out of reach here: a request to it would be another error."""
    for command in (["inspect", source], ["convert", source, str(out)]):
        done = run_cli(*command, cwd=tmp_path)
        if source == "":
            assert done.code == 2
        else:
            done.assert_refused(words)
    assert list(out.parent.iterdir()) == []


def test_a_source_that_is_a_file(checkpoint: Path, out: Path, run_here: RunCli) -> None:
    path = shard_with(checkpoint)
    run_here("convert", path, out).assert_refused(str(path), "not a folder")


def test_an_empty_folder(tmp_path: Path, out: Path, run_here: RunCli) -> None:
    (tmp_path / "empty").mkdir()
    run_here("convert", tmp_path / "empty", out).assert_refused("no config.json")


def test_a_revision_of_a_folder(checkpoint: Path, refuse: Refuse) -> None:
    refuse("'v1'", "folder", options=("--revision", "v1"))


def test_two_revisions(out: Path, run_here: RunCli) -> None:
    done = run_here("convert", "org/name@a", out, "--revision", "b")
    done.assert_refused("two revisions", "'a'", "'b'")


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "mps"])
def test_a_device_that_does_not_exist(
    checkpoint: Path, out: Path, run_here: RunCli, device: str
) -> None:
    run_here("convert", checkpoint, out, "--device", device).assert_refused(f"'{device}'")
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none(checkpoint: Path, out: Path, run_here: RunCli) -> None:
    run_here("convert", checkpoint, out, "--device", "cuda").assert_refused("0 CUDA devices")
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert"],
        ["convert", "x"],
        ["convert", "x", "y", "z"],
        ["convert", "x", "y", "--workers", "0"],
        ["convert", "x", "y", "--workers", "many"],
        ["convert", "x", "y", "--unknown"],
        ["inspect"],
        ["inspect", "x", "--hardlink"],
        ["unknown"],
        ["--unknown"],
    ],
)
def test_arguments_that_are_wrong(run_cli: RunCli, tmp_path: Path, arguments: list[str]) -> None:
    run_cli(*arguments, cwd=tmp_path).assert_refused()


def test_a_reader_that_goes_away_leaves_no_traceback(checkpoint: Path) -> None:
    command = f"{sys.executable} -m conv2linear inspect {checkpoint} --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
