"""`restore` gives every file back and no other, or says with exit 1 that it cannot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert, restore, verify
from conv2linear.errors import CheckFailedError
from tests.support.checkpoints import BIAS, INDEX, MANIFEST, WEIGHT
from tests.support.contents import byte_range, hashes, other_shard, shard_with
from tests.support.damage import edit_json, flip_bit, overwrite
from tests.support.processes import RunCli


def flip_byte(path: Path, at: int = 0) -> None:
    overwrite(path, at, bytes([path.read_bytes()[at] ^ 1]))


def rename_shard(folder: Path) -> None:
    path = other_shard(folder)
    path.rename(path.with_name("renamed.safetensors"))

    def edit(index: Any) -> None:
        for name, shard in index["weight_map"].items():
            if shard == path.name:
                index["weight_map"][name] = "renamed.safetensors"

    edit_json(folder / INDEX, edit)


def cut_shard(folder: Path) -> None:
    path = other_shard(folder)
    path.write_bytes(path.read_bytes()[:-1])


def flip_end_of_bias(folder: Path) -> None:
    path = shard_with(folder, BIAS)
    flip_byte(path, byte_range(path, BIAS)[1] - 1)


def add_empty_file(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "x").touch()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weight": (flip_bit, WEIGHT),
    "bias": (lambda f: flip_bit(f, BIAS), BIAS),
    "last value of the bias": (flip_end_of_bias, BIAS),
    "small file": (lambda f: flip_byte(f / "generation_config.json", 2), "generation_config.json"),
    "index": (lambda f: flip_byte(f / INDEX, 30), INDEX),
    "config": (
        lambda f: edit_json(f / "config.json", lambda c: c.update(torch_dtype="float64")),
        r"config\.json",
    ),
    "config of the same size": (
        lambda f: (f / "config.json").write_bytes(
            (f / "config.json").read_bytes().replace(b"true", b"null", 1)
        ),
        r"config\.json",
    ),
    "config that is not JSON": (lambda f: (f / "config.json").write_text("{"), r"config\.json"),
    "card": (lambda f: flip_byte(f / "README.md", 5), r"README\.md"),
    "missing file": (lambda f: (f / "generation_config.json").unlink(), "on record and missing"),
    "missing card": (lambda f: (f / "README.md").unlink(), r"README\.md is on record and missing"),
    "missing shard": (lambda f: other_shard(f).unlink(), "on record and missing"),
    "missing shard of the weight": (lambda f: shard_with(f).unlink(), "on record and missing"),
    "added file": (lambda f: (f / "extra.txt").write_text("x"), r"extra\.txt is not on record"),
    "added empty file": (add_empty_file, "sub/x"),
    "renamed shard": (rename_shard, "model.safetensors.index.json|renamed|on record and missing"),
    "cut shard": (cut_shard, "bytes, recorded were"),
    "length of a header": (lambda f: flip_byte(shard_with(f)), "header"),
    "header": (lambda f: flip_byte(shard_with(f), 12), "not what its record says"),
}


@pytest.mark.parametrize("hardlink", [False, True], ids=["copied", "hard-linked"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_was_damaged_is_not_restored(
    checkpoint: Path, tmp_path: Path, damage: str, hardlink: bool, run_here: RunCli
) -> None:
    linear, restored = tmp_path / "linear", tmp_path / "restored"
    convert(checkpoint, linear, device="cpu")
    plant, words = DAMAGES[damage]
    plant(linear)
    with pytest.raises(CheckFailedError, match=words) as failed:
        restore(linear, restored, hardlink=hardlink)
    assert failed.value.hint
    done = run_here("restore", linear, restored, *(["--hardlink"] if hardlink else []))
    done.assert_refused(code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linear", "model"]


def test_what_the_record_has_no_hash_of_is_said(
    checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    linear = tmp_path / "linear"
    convert(checkpoint, linear, device="cpu")
    done = run_here("restore", linear, tmp_path / "restored", "--json")
    shards = sorted(path.name for path in checkpoint.glob("*.safetensors"))
    assert done.json["sizes_only"] == shards
    human = run_here("restore", linear, tmp_path / "restored", "--force").stdout
    assert "every file" not in human
    assert f"of {len(shards)} it has no hash" in human


def complete_record(linear: Path) -> None:
    """Put the hash of every file into the record."""
    found = hashes(linear)

    def edit(manifest: Any) -> None:
        for record in manifest["files"]:
            record["sha256"] = found[record["name"]]

    edit_json(linear / MANIFEST, edit)


def test_with_all_hashes_on_record_every_file_is_proven(
    checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    linear = tmp_path / "linear"
    convert(checkpoint, linear, device="cpu")
    complete_record(linear)
    done = run_here("restore", linear, tmp_path / "restored")
    assert "with the record: every file is as it was" in done.stdout
    assert hashes(tmp_path / "restored") == hashes(checkpoint)


@pytest.mark.parametrize("hardlink", [False, True])
@pytest.mark.parametrize("where", ["other shard", "shard of the weight"])
def test_a_flipped_byte_that_a_recorded_hash_shows(
    checkpoint: Path, tmp_path: Path, where: str, hardlink: bool
) -> None:
    linear = tmp_path / "linear"
    convert(checkpoint, linear, device="cpu")
    complete_record(linear)
    path = other_shard(linear) if where == "other shard" else shard_with(linear)
    flip_byte(path, path.stat().st_size - 1)
    with pytest.raises(CheckFailedError, match=path.name.replace(".", r"\.") + "|" + WEIGHT):
        restore(linear, tmp_path / "restored", hardlink=hardlink)
    assert not (tmp_path / "restored").exists()


def test_what_the_hub_adds_is_not_given_back_and_what_it_appended_is_cut(
    checkpoint: Path, tmp_path: Path
) -> None:
    linear, restored = tmp_path / "linear", tmp_path / "restored"
    convert(checkpoint, linear, device="cpu")
    (linear / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert restore(linear, restored).omitted == (".gitattributes", "README.md", MANIFEST)
    assert hashes(restored) == hashes(checkpoint)
    shutil.rmtree(linear)
    (checkpoint / ".gitattributes").write_text("*.bin filter=lfs\n")
    convert(checkpoint, linear, device="cpu")
    with (linear / ".gitattributes").open("a") as file:
        file.write("tokenizer.json filter=lfs\n")
    restore(linear, restored, force=True)
    assert hashes(restored) == hashes(checkpoint)
    (linear / ".gitattributes").write_text("*.pth filter=lfs\nmore\n")
    with pytest.raises(CheckFailedError, match=r"\.gitattributes"):
        restore(linear, tmp_path / "again")


def test_an_overlay_that_was_damaged_is_not_restored(checkpoint: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    convert(checkpoint, overlay, device="cpu", changed_only=True)
    (overlay / "generation_config.json").write_text("{}")
    with pytest.raises(CheckFailedError, match="not on record"):
        restore(overlay, tmp_path / "restored")
    (overlay / "generation_config.json").unlink()
    restore(overlay, tmp_path / "restored")


def test_what_is_restored_without_a_record_is_not_called_exact(
    checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    (tmp_path / "linear" / MANIFEST).unlink()
    done = run_here("restore", tmp_path / "linear", tmp_path / "restored")
    assert "with no record: the kernel's shape comes from config.json" in done.stdout


def test_a_hard_link_to_the_converted_file_is_checked_too(checkpoint: Path, tmp_path: Path) -> None:
    """The two share their bytes: damage to one is damage to both."""
    linear = tmp_path / "linear"
    convert(checkpoint, linear, device="cpu", hardlink=True)
    assert (checkpoint / INDEX).samefile(linear / INDEX)
    flip_byte(checkpoint / INDEX, 30)
    with pytest.raises(CheckFailedError, match=INDEX):
        restore(linear, tmp_path / "restored", hardlink=True)
    assert not verify(linear, device="cpu", checksums=True).passed
