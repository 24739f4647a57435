"""The options of a conversion, and what it tells its caller."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conv2linear import convert
from conv2linear.cli.document import SCHEMA_VERSION
from conv2linear.operations.conversion import Conversion
from tests.support.checkpoints import WEIGHT
from tests.support.contents import (
    manifest_of,
    read_tensors,
    shard_with,
    snapshot,
)
from tests.support.processes import RunCli

NEW_FILES = {"conv2linear.json", "README.md"}
EDITED_FILES = {"config.json", "README.md"}


def test_hard_links_share_what_is_unchanged_and_nothing_else(
    rich_checkpoint: Path, out: Path
) -> None:
    before = snapshot(rich_checkpoint)
    convert(rich_checkpoint, out, device="cpu", hardlink=True)
    own = {shard_with(out).name, *EDITED_FILES, *NEW_FILES}
    for path in (p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        source = rich_checkpoint / name
        assert (source.exists() and path.samefile(source)) == (name not in own), name
        if name in own:
            assert path.stat().st_nlink == 1
    assert snapshot(rich_checkpoint) == before
    assert read_tensors(out)[WEIGHT].shape == (128, 1176)


def test_hard_links_lead_to_the_file_behind_a_link(
    checkpoint: Path, out: Path, tmp_path: Path
) -> None:
    path = checkpoint / "generation_config.json"
    path.rename(tmp_path / "blob")
    path.symlink_to(tmp_path / "blob")
    convert(checkpoint, out, device="cpu", hardlink=True)
    assert not (out / path.name).is_symlink()
    assert (out / path.name).samefile(tmp_path / "blob")


def test_force_replaces_a_checkpoint(checkpoint: Path, out: Path) -> None:
    shutil.copytree(checkpoint, out)
    (out / "merges.txt").touch()  # what another checkpoint may have
    convert(checkpoint, out, device="cpu", force=True)
    assert read_tensors(out)[WEIGHT].shape == (128, 1176)
    assert not (out / "merges.txt").exists()
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_force_replaces_an_empty_folder_and_one_that_is_not_there(
    checkpoint: Path, out: Path
) -> None:
    out.mkdir()
    convert(checkpoint, out, device="cpu", force=True)
    convert(checkpoint, out.parent / "other", device="cpu", force=True)
    assert sorted(path.name for path in out.parent.iterdir()) == ["linear", "other"]


def test_nothing_is_left_beside_the_output(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu")
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]


def test_the_result_of_the_function_names_the_output_and_the_checks(
    checkpoint: Path, out: Path
) -> None:
    conversion = convert(str(checkpoint), str(out), device="cpu")
    assert isinstance(conversion, Conversion)
    assert conversion.out == out
    assert len(conversion.checks) == 1
    assert conversion.manifest.model_type == "glm4v"


def test_convert_says_at_a_glance_what_it_did(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    done = run_cli("convert", checkpoint, out, "--device", "cpu")
    assert done.code == 0
    assert out.is_dir()
    for words in (WEIGHT, "[128, 3, 2, 14, 14]", "[128, 1176]", "1176 one-hot", str(out), "BF16"):
        assert words in done.stdout
    assert {line.split()[0] for line in done.stderr.splitlines()} == {"check", "write"}


def test_quiet_says_nothing_on_stderr(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    done = run_cli("convert", checkpoint, out, "-q")
    assert done.code == 0
    assert done.stderr == ""


def test_convert_prints_one_json_document(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    done = run_cli("convert", checkpoint, out, "--json", "--device", "cpu")
    assert done.code == 0
    assert done.stderr == ""
    document = done.json
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["command"] == "convert"
    assert document["dry_run"] is False
    assert document["out"] == str(out)
    assert document["warnings"] == []
    assert document["manifest"] == manifest_of(out)
    (check,) = document["checks"]
    assert check["failure"] is None


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(
    checkpoint: Path, out: Path, run_cli: RunCli
) -> None:
    before = snapshot(checkpoint)
    done = run_cli("convert", checkpoint, out, "--dry-run", "--json")
    assert done.code == 0
    assert list(out.parent.iterdir()) == []
    assert snapshot(checkpoint) == before
    document = done.json
    assert document["dry_run"] is True
    assert document["download_bytes"] == 0
    actions = {file["name"]: file["action"] for file in document["files"]}
    reshaped = shard_with(checkpoint).name
    assert actions[reshaped] == "reshape"
    assert actions["config.json"] == "edit"
    assert {n for n, a in actions.items() if a == "copy"} == set(before) - {reshaped, "config.json"}
    sizes = {file["name"]: file["size_bytes"] for file in document["files"]}
    assert sizes[reshaped] == (checkpoint / reshaped).stat().st_size
    assert document["write_bytes"] == sum(sizes.values())
    human = run_cli("convert", checkpoint, out, "--dry-run")
    assert human.code == 0
    assert "reshape" in human.stdout
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("arguments", [["inspect", "{}"], ["convert", "{}", "x", "--dry-run"]])
def test_inspect_and_a_dry_run_import_no_torch(
    checkpoint: Path, tmp_path: Path, run_cli: RunCli, arguments: list[str]
) -> None:
    script = "import sys; sys.modules['torch'] = None; from conv2linear.cli import main; main()"
    command = [sys.executable, "-c", script, *(a.format(checkpoint) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
