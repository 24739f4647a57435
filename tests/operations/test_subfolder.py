"""A checkpoint in a folder of the source is converted there, and all else stays as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conv2linear import convert, inspect_checkpoint, restore, verify
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError
from tests.support import forks
from tests.support.checkpoints import SMALL_KERNEL, WEIGHT, write_checkpoint
from tests.support.contents import hashes, manifest_of, read_files
from tests.support.load_in_transformers import load
from tests.support.models import TinyModel

FOLDER = "models/tower"
KERNEL = [128, 3, 2, 14, 14]


@pytest.fixture
def source(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """Return a repository with a checkpoint at the top, and another one in a folder."""
    folder = Path(shutil.copytree(tiny_model(), tmp_path / "model"))
    shutil.copytree(tiny_model(max_shard_size="1GB"), folder / FOLDER)
    return folder


def test_only_the_checkpoint_in_the_folder_is_converted(source: Path, out: Path) -> None:
    conversion = convert(source, out, subfolder=f"{FOLDER}/", device="cpu")
    before, after = read_files(source), read_files(out)
    changed = {name for name in after if before.get(name) != after[name]}
    config, shard = f"{FOLDER}/config.json", f"{FOLDER}/model.safetensors"
    assert changed == {"README.md", "conv2linear.json", config, shard}
    assert before.keys() <= after.keys()
    assert list(load_file(out / shard)[WEIGHT].shape) == [128, 1176]
    assert manifest_of(out)["subfolder"] == FOLDER
    assert any("the top folder has a checkpoint" in w for w in conversion.warnings)


def test_verify_and_restore_find_it_by_the_record(source: Path, out: Path, tmp_path: Path) -> None:
    convert(source, out, subfolder=FOLDER, device="cpu")
    verification = verify(out, source=source, device="cpu", engine="transformers")
    assert verification.passed, verification.failed
    restore(out, tmp_path / "restored")
    assert hashes(tmp_path / "restored") == hashes(source)


def test_an_overlay_of_it_is_one_too(source: Path, out: Path) -> None:
    convert(source, out, subfolder=FOLDER, changed_only=True, device="cpu")
    verification = verify(out, source=source, device="cpu")
    assert verification.passed, verification.failed


def test_a_changed_config_in_the_folder_is_found(source: Path, out: Path) -> None:
    convert(source, out, subfolder=FOLDER, device="cpu")
    path = out / FOLDER / "config.json"
    path.write_text(path.read_text().replace('"model_type"', '"model_type" '))
    assert verify(out, device="cpu").failed


def test_transformers_loads_it_by_the_same_name(source: Path, out: Path) -> None:
    convert(source, out, subfolder=FOLDER, device="cpu")
    assert forks.call(projection_of, out, FOLDER) == "Linear"


def projection_of(folder: Path, name: str) -> str:
    from transformers import AutoModelForImageTextToText

    model, info = AutoModelForImageTextToText.from_pretrained(
        folder, subfolder=name, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    return type(model.model.visual.patch_embed.linear_proj).__name__


def test_one_after_the_other_is_converted(source: Path, out: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "first", subfolder=FOLDER, device="cpu")
    convert(tmp_path / "first", out, device="cpu")
    loaded = [load(folder, tmp_path / "logits") for folder in (out, out / FOLDER)]
    assert all(each.projection_class.endswith("Linear") for each in loaded)
    assert torch.equal(loaded[0].logits, loaded[1].logits)
    restore(out, tmp_path / "back")
    restore(tmp_path / "back", tmp_path / "all the way")
    assert hashes(tmp_path / "all the way") == hashes(source)


@pytest.mark.parametrize("name", ["nowhere", "models"])
def test_a_folder_without_a_checkpoint(source: Path, name: str) -> None:
    with pytest.raises(BadCheckpointError) as raised:
        inspect_checkpoint(source, subfolder=name)
    assert FOLDER in str(raised.value.hint)


@pytest.mark.parametrize("name", ["..", "../model", "a/../..", "a\\b"])
def test_a_folder_outside(source: Path, name: str) -> None:
    with pytest.raises(BadCheckpointError, match="not the name of a folder in a repository"):
        inspect_checkpoint(source, subfolder=name)


def test_another_kernel_is_named(source: Path, tiny_model: TinyModel) -> None:
    (kernel,) = [path for path in source.glob("*.safetensors") if WEIGHT in load_file(path)]
    shutil.copy(kernel, source / "consolidated.safetensors")
    stale, folder = inspect_checkpoint(source).warnings
    assert "consolidated.safetensors" in stale
    assert f"--subfolder {FOLDER}" in folder
    assert inspect_checkpoint(tiny_model()).warnings == ()


def test_only_headers_of_other_files_are_read_and_nothing_is_an_error(
    source: Path, tmp_path: Path
) -> None:
    shutil.rmtree(source / "models")
    for number, content in enumerate(
        (b"", b"short", b"\xff" * 64, b"\x08" + b"\0" * 7 + b"not json")
    ):
        (source / f"other-{number}.safetensors").write_bytes(content)
    assert inspect_checkpoint(source).warnings == ()


def test_more_files_than_are_searched_are_counted(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", shards=1, kernel=SMALL_KERNEL, filler_bytes=8)
    for number in range(40):
        (folder / f"other-{number:02}.safetensors").write_bytes(b"")
    (warning,) = inspect_checkpoint(folder).warnings
    assert "8 other safetensors files not searched" in warning


def test_a_kernel_that_the_index_does_not_name_is_pointed_at(source: Path) -> None:
    shutil.rmtree(source / "models")
    (kernel,) = [path for path in source.glob("*.safetensors") if WEIGHT in load_file(path)]
    shutil.copy(source / "config.json", source.parent / "config.json")
    kernel.rename(source / "elsewhere.safetensors")
    index = source / "model.safetensors.index.json"
    lines = [line for line in index.read_text().splitlines() if kernel.name not in line]
    index.write_text("\n".join(lines))
    with pytest.raises(UnsupportedCheckpointError) as raised:
        inspect_checkpoint(source)
    assert "elsewhere.safetensors" in str(raised.value.hint)
