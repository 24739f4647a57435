"""`--force` replaces a checkpoint of the same kind, and never anything else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conv2linear import convert, plan_conversion, restore, verify
from conv2linear.errors import Conv2LinearWarning, OutputError
from tests.support.checkpoints import MANIFEST
from tests.support.contents import hashes, manifest_of, read_files, shard_with
from tests.support.damage import edit_json
from tests.support.models import TinyModel
from tests.support.processes import RunCli, obey_permissions
from tests.support.progress import AtStep


def assert_kept(checkpoint: Path, out: Path, *, match: str) -> None:
    """Check that neither a run nor its plan accepts OUT, and that all stays as it is."""
    before = tree(out.parent)
    with pytest.raises(OutputError, match=match):
        convert(checkpoint, out, device="cpu", force=True)
    with pytest.raises(OutputError, match=match):
        plan_conversion(checkpoint, out=out, force=True)
    assert tree(out.parent) == before


def tree(folder: Path) -> dict[str, object]:
    """Return what is below a folder: the content of files, where links lead to."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = path.readlink()
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def add_git_folder(out: Path) -> None:
    subprocess.run(["git", "init", "-q", str(out)], check=True)


def add_cache(out: Path) -> None:
    (out / ".cache").mkdir()
    (out / ".cache" / "results").write_text("x")


def remove_weights(out: Path) -> None:
    for path in out.glob("*.safetensors"):
        path.unlink()


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "git folder": (add_git_folder, "git repository"),
    "git file": (lambda out: (out / ".git").write_text("gitdir: /elsewhere"), "git repository"),
    "git folder below": (lambda out: (out / "sub/.git").mkdir(parents=True), "git repository"),
    "git folder of a system without case": (lambda out: (out / ".Git").mkdir(), "git repository"),
    "thesis": (lambda out: (out / "thesis.txt").write_text("years"), r"thesis\.txt"),
    "json": (lambda out: (out / "results.json").write_text("{}"), r"results\.json"),
    "training state": (lambda out: (out / "optimizer.pt").write_bytes(b"x"), r"optimizer\.pt"),
    "hidden": (lambda out: (out / ".env").write_text("KEY=1"), r"\.env"),
    "folder": (lambda out: shutil.copytree(out, out / "checkpoint-500"), "checkpoint-500"),
    "cache": (add_cache, r"\.cache/results"),
    "empty file": (lambda out: (out / "KEEP").touch(), "KEEP"),
    "empty folder": (lambda out: (out / "experiments").mkdir(), "experiments/"),
    "adapter": (
        lambda out: (out / "adapter_model.safetensors").write_bytes(b"x"),
        r"adapter_model\.safetensors",
    ),
    "link": (lambda out: (out / "model.bin").symlink_to("/etc/hostname"), "link"),
    "pipe": (lambda out: os.mkfifo(out / "pipe"), "not a regular file"),
    "other model": (
        lambda out: edit_json(out / "config.json", lambda c: c.update(model_type="llama")),
        "model type llama",
    ),
    "no model": (lambda out: (out / "config.json").write_text("{}"), "not a checkpoint"),
    "no weights": (remove_weights, "not a checkpoint"),
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("is_converted", [False, True], ids=["any checkpoint", "earlier output"])
def test_a_folder_with_anything_that_no_checkpoint_has_is_kept(
    checkpoint: Path, out: Path, foreign: str, is_converted: bool
) -> None:
    if is_converted:
        convert(checkpoint, out, device="cpu")
    else:
        shutil.copytree(checkpoint, out)
    plant, words = FOREIGN[foreign]
    if is_converted and foreign in ("other model", "no model", "no weights"):
        (out / MANIFEST).unlink()  # it would say what the folder is
    plant(out)
    assert_kept(checkpoint, out, match=words)


def test_a_folder_of_json_files_is_kept(checkpoint: Path, out: Path) -> None:
    out.mkdir()
    (out / "config.json").write_text('{"port": 8080}')
    assert_kept(checkpoint, out, match="not a checkpoint")


@pytest.mark.parametrize("old", ["source", "linear", "overlay", "download", "empty"])
def test_a_checkpoint_of_the_same_kind_is_replaced(checkpoint: Path, out: Path, old: str) -> None:
    (checkpoint / "assets").mkdir()
    (checkpoint / "assets" / "picture.png").write_bytes(b"png")
    if old == "empty":
        out.mkdir()
    elif old in ("linear", "overlay"):
        convert(checkpoint, out, device="cpu", changed_only=old == "overlay")
    else:
        shutil.copytree(checkpoint, out)
    if old == "download":
        (out / ".cache/huggingface/download").mkdir(parents=True)
        (out / ".cache/huggingface/download/config.json.metadata").write_text("x")
        (out / ".gitattributes").write_text("*.safetensors filter=lfs")
    convert(checkpoint, out, device="cpu", force=True)
    assert json.loads((out / MANIFEST).read_text())["partial"] is False
    assert (out / "assets" / "picture.png").read_bytes() == b"png"


@pytest.mark.parametrize("old", ["source", "linear"])
def test_a_part_never_replaces_a_whole(checkpoint: Path, out: Path, old: str) -> None:
    if old == "source":
        shutil.copytree(checkpoint, out)
    else:
        convert(checkpoint, out, device="cpu")
    before = hashes(out)
    with pytest.raises(OutputError, match="whole checkpoint"):
        convert(checkpoint, out, device="cpu", force=True, changed_only=True)
    overlay = out.with_name("overlay")
    convert(checkpoint, overlay, device="cpu", changed_only=True)
    with pytest.raises(OutputError, match="whole checkpoint"):
        restore(overlay, out, force=True)
    assert hashes(out) == before


def test_a_part_that_lacks_nothing_is_a_whole_and_replaces_one(
    tiny_model: TinyModel, tmp_path: Path, out: Path
) -> None:
    source = Path(shutil.copytree(tiny_model(max_shard_size="1GB"), tmp_path / "single"))
    for path in source.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    convert(source, out, device="cpu")
    convert(source, out, device="cpu", force=True, changed_only=True)
    assert not manifest_of(out).get("partial")
    assert verify(out, source=source, device="cpu").passed


def test_a_part_that_was_completed_is_not_replaced_by_a_part(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu", changed_only=True)
    for path in checkpoint.iterdir():
        if not (out / path.name).exists():
            shutil.copy(path, out)
    before = hashes(out)
    with pytest.raises(OutputError, match="would lack"):
        convert(checkpoint, out, device="cpu", force=True, changed_only=True)
    assert hashes(out) == before
    convert(checkpoint, out, device="cpu", force=True)


def test_shards_that_an_index_names_otherwise_are_those_of_a_checkpoint(
    checkpoint: Path, out: Path
) -> None:
    shutil.copytree(checkpoint, out)
    index = out / "model.safetensors.index.json"
    for path in sorted(out.glob("*.safetensors")):
        other = path.name.replace("model-", "weights-")
        index.write_text(index.read_text().replace(path.name, other))
        path.rename(out / other)
    convert(checkpoint, out, device="cpu", force=True)
    assert (out / MANIFEST).exists()


def test_a_part_replaces_a_part(checkpoint: Path, out: Path) -> None:
    for _ in range(2):
        convert(checkpoint, out, device="cpu", force=True, changed_only=True)
    for _ in range(2):
        restore(out, out.with_name("restored"), force=True)


def test_what_appears_in_the_old_output_during_the_run_is_kept(checkpoint: Path, out: Path) -> None:
    shutil.copytree(checkpoint, out)
    late = AtStep("publish", lambda: (out / "thesis.txt").write_text("just saved"))
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        convert(checkpoint, out, device="cpu", force=True, progress=late)
    assert (out / "thesis.txt").read_text() == "just saved"


def link_files(folder: Path, links: Path) -> Path:
    """Make a folder of links to all files of a folder, as the Hub's cache has for a commit."""
    links.mkdir(parents=True)
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    return links


@pytest.mark.parametrize("where", ["is", "contains", "is inside"])
def test_what_the_links_of_a_source_lead_to_is_only_read(
    tiny_model: TinyModel, tmp_path: Path, where: str
) -> None:
    blobs = Path(shutil.copytree(tiny_model(), tmp_path / "cache" / "blobs"))
    source = link_files(blobs, tmp_path / "snapshots" / "commit")
    out = {"is": blobs, "contains": blobs.parent, "is inside": blobs / "linear"}[where]
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=f"{where} .*where files of the source lie"):
        convert(source, out, device="cpu", force=True)
    assert tree(tmp_path) == before
    convert(source, tmp_path / "linear", device="cpu")


def test_an_output_may_lie_beside_a_source_and_the_files_that_it_links(
    checkpoint: Path, tmp_path: Path
) -> None:
    """One folder may hold the source, the files that it links, and the output."""
    (tmp_path / "shared.bin").write_bytes(b"x")
    (checkpoint / "extra.bin").symlink_to(tmp_path / "shared.bin")
    convert(checkpoint, tmp_path / "linear", device="cpu")
    assert (tmp_path / "linear" / "extra.bin").read_bytes() == b"x"


def test_a_source_under_another_mount_is_the_source(checkpoint: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    bind = ["mount", "--bind", str(checkpoint), str(mounted)]
    if subprocess.run(bind, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount: needs root")
    try:
        before = read_files(checkpoint)
        for out in (mounted, mounted / "linear"):
            with pytest.raises(OutputError, match="source"):
                convert(checkpoint, out, device="cpu", force=True)
        assert read_files(checkpoint) == before
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_an_old_output_that_resists_is_replaced_all_the_same(
    checkpoint: Path, out: Path, run_cli: RunCli
) -> None:
    """Its folders may not be written, which for a user other than root keeps what is in them."""
    (checkpoint / "assets").mkdir()
    (checkpoint / "assets" / "picture.png").write_bytes(b"png")
    shutil.copytree(checkpoint, out)
    (out / "assets").chmod(0o555)
    done = run_cli(
        "convert", checkpoint, out, "--force", "--device", "cpu", preexec_fn=obey_permissions
    )
    assert done.code == 0, done.stderr
    assert list(out.parent.iterdir()) == [out]
    assert shard_with(out).exists()


def test_what_cannot_be_removed_is_a_warning_after_all_is_done(checkpoint: Path, out: Path) -> None:
    shutil.copytree(checkpoint, out)
    fixed = out / "LICENSE"
    fixed.write_text("mine")
    if subprocess.run(["chattr", "+i", str(fixed)], capture_output=True, check=False).returncode:
        pytest.skip("cannot make a file immutable")
    try:
        with pytest.warns(Conv2LinearWarning, match="what it replaced is left in"):
            convert(checkpoint, out, device="cpu", force=True)
    finally:
        for path in out.parent.rglob("LICENSE"):
            subprocess.run(["chattr", "-i", str(path)], check=False)
    assert (out / MANIFEST).exists()
