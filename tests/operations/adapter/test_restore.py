"""Restore an adapter: byte for byte by its record, or by the base's config."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from conv2linear import convert, restore
from conv2linear.errors import CheckFailedError, Conv2LinearError, NothingToConvertError
from tests.support.adapters import (
    LAYER,
    Shapes,
    config_of,
    conv3d_shapes,
    linear_shapes,
    other_shapes,
    save_adapter,
)
from tests.support.contents import snapshot


@pytest.mark.parametrize("shapes", [conv3d_shapes(), other_shapes()], ids=["layer", "spared"])
@pytest.mark.parametrize("with_record", [False, True], ids=["plain", "an older record"])
def test_every_file_comes_back_byte_for_byte(
    tmp_path: Path, out: Path, shapes: Shapes, with_record: bool
) -> None:
    adapter = save_adapter(tmp_path / "adapter", shapes)
    (adapter / "optimizer.pt").write_bytes(b"state")
    if with_record:
        (adapter / "conv2linear.json").write_text("not ours")
    convert(adapter, out)
    restoration = restore(out, tmp_path / "restored")
    assert restoration.exact
    assert restoration.sizes_only == ()
    for path in adapter.iterdir():
        assert (tmp_path / "restored" / path.name).read_bytes() == path.read_bytes()
    assert set(snapshot(tmp_path / "restored")) == set(snapshot(adapter))


@pytest.mark.parametrize("spaces", range(9))
def test_a_header_of_any_length_comes_back(tmp_path: Path, out: Path, spaces: int) -> None:
    adapter = save_adapter(tmp_path / "adapter")
    weights = adapter / "adapter_model.safetensors"
    content = weights.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip(b" ") + b" " * spaces
    data = content[8 + length :]
    weights.write_bytes(len(header).to_bytes(8, "little") + header + data)
    convert(adapter, out)
    moved = (out / "adapter_model.safetensors").read_bytes()
    moved_length = int.from_bytes(moved[:8], "little")
    assert moved[8 + moved_length :] == data
    assert moved_length == len(header) or (8 + moved_length) % 8 == 0
    restore(out, tmp_path / "restored")
    assert (tmp_path / "restored" / weights.name).read_bytes() == weights.read_bytes()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "README.md"])
def test_what_is_not_as_recorded_is_not_restored(tmp_path: Path, out: Path, name: str) -> None:
    convert(save_adapter(tmp_path / "adapter"), out)
    content = bytearray((out / name).read_bytes())
    content[-3] ^= 1
    (out / name).write_bytes(content)
    with pytest.raises(CheckFailedError):
        restore(out, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_record_with_another_header_is_not_believed(tmp_path: Path, out: Path) -> None:
    convert(save_adapter(tmp_path / "adapter"), out)
    record = json.loads((out / "conv2linear.json").read_text())
    record["shards"][0]["header_before"] = record["shards"][0]["header_before"].replace(
        "qkv", "kvq"
    )
    (out / "conv2linear.json").write_text(json.dumps(record))
    with pytest.raises(CheckFailedError, match="not the one with the hash on record"):
        restore(out, tmp_path / "restored")


def base_config(folder: Path) -> Path:
    """Make a folder that has the config of a base, and nothing else."""
    folder.mkdir()
    sizes = {"hidden_size": 8, "in_channels": 3, "temporal_patch_size": 2, "patch_size": 4}
    values = {"model_type": "glm4v", "vision_config": sizes}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_without_a_record_the_base_says_which_kernel_it_is(tmp_path: Path) -> None:
    base = base_config(tmp_path / "base")
    adapter = save_adapter(
        tmp_path / "adapter",
        linear_shapes(),
        base_model_name_or_path=str(base),
        target_modules=["qkv", "proj", "linear_proj"],
    )
    restoration = restore(adapter, tmp_path / "restored")
    assert not restoration.exact
    found = load_file(tmp_path / "restored" / "adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == conv3d_shapes()
    convert(tmp_path / "restored", tmp_path / "again")
    again = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert again.keys() == load_file(adapter / "adapter_model.safetensors").keys()


def test_without_a_record_and_a_base_it_is_refused(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", linear_shapes(), base_model_name_or_path=None)
    with pytest.raises(Conv2LinearError, match="only the base's config") as error:
        restore(adapter, tmp_path / "restored")
    assert "base_model_name_or_path" in str(error.value.hint)
    gone = save_adapter(
        tmp_path / "gone", linear_shapes(), base_model_name_or_path=str(tmp_path / "nowhere")
    )
    with pytest.raises(Conv2LinearError, match="nowhere"):
        restore(gone, tmp_path / "restored")


def test_an_adapter_for_a_conv3d_is_not_restored(tmp_path: Path) -> None:
    with pytest.raises(NothingToConvertError):
        restore(save_adapter(tmp_path / "adapter"), tmp_path / "restored")


def test_names_in_the_config_are_those_of_the_restored_tensors(tmp_path: Path, out: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter")
    convert(adapter, out)
    (out / "conv2linear.json").unlink()
    base = base_config(tmp_path / "base")
    values = {**config_of(out), "base_model_name_or_path": str(base)}
    (out / "adapter_config.json").write_text(json.dumps(values))
    restore(out, tmp_path / "restored")
    assert "patch_embed.proj" in config_of(tmp_path / "restored")["target_modules"]
    assert f"{LAYER}.lora_A.weight" in load_file(
        tmp_path / "restored" / "adapter_model.safetensors"
    )
    shutil.rmtree(tmp_path / "restored")
