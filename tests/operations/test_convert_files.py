"""Nothing but the layout changes: the files and tensors of a converted checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear import convert
from tests.operations.cases import CASES
from tests.support.checkpoints import WEIGHT
from tests.support.contents import (
    read_tensors,
    shard_with,
    shards_of,
    snapshot,
)
from tests.support.damage import rename_tensors
from tests.support.models import TinyModel
from tests.support.processes import RunCli

MODULE = "model.visual.patch_embed.linear_proj"
NEW_FILES = {"conv2linear.json", "README.md"}
EDITED_FILES = {"config.json", "README.md"}


def test_every_other_file_is_the_same_byte_for_byte(rich_checkpoint: Path, out: Path) -> None:
    before = snapshot(rich_checkpoint)
    convert(rich_checkpoint, out, device="cpu")
    after = snapshot(out)
    reshaped = shard_with(out).name
    left_out = {".git/HEAD", ".cache/huggingface/CACHEDIR.TAG"}
    assert set(after) == set(before) - left_out | NEW_FILES
    for name in set(before) - left_out - EDITED_FILES - {reshaped}:
        assert after[name][0] == before[name][0], name
    assert snapshot(rich_checkpoint) == before


def test_only_the_header_of_one_shard_changes(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu")
    changed = [
        name
        for name, path in shards_of(checkpoint).items()
        if path.read_bytes() != (out / name).read_bytes()
    ]
    assert changed == [shard_with(checkpoint).name]
    before, after = ((folder / changed[0]).read_bytes() for folder in (checkpoint, out))
    length = 8 + int.from_bytes(before[:8], "little")
    assert after[:8] == before[:8]
    assert after[length:] == before[length:]
    old, new = json.loads(before[8:length]), json.loads(after[8:length])
    assert new[WEIGHT].pop("shape") == [128, 1176]
    assert old[WEIGHT].pop("shape") == [128, 3, 2, 14, 14]
    assert new == old


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_has_the_same_bytes(tiny_model: TinyModel, out: Path, case: str) -> None:
    source = tiny_model(**CASES[case])
    convert(source, out, device="cpu")
    before, after = read_tensors(source), read_tensors(out)
    assert list(after) == list(before)
    for name, tensor in before.items():
        expected = tensor.flatten(1) if name == WEIGHT else tensor
        assert after[name].dtype == expected.dtype
        assert after[name].shape == expected.shape
        assert torch.equal(after[name].view(torch.uint8), expected.view(torch.uint8))
    assert after[WEIGHT].dim() == 2


def test_every_patch_embedding_is_converted(checkpoint: Path, out: Path) -> None:
    """Two of them in two shards, under two prefixes, as a model with two towers would have."""
    last = sorted(shards_of(checkpoint).values())[-1]
    tensors = load_file(last)
    names = [f"visual_2.patch_embed.proj.{kind}" for kind in ("weight", "bias")]
    tensors[names[0]] = torch.randn(128, 3, 2, 14, 14).bfloat16()
    tensors[names[1]] = torch.randn(128).bfloat16()
    save_file(tensors, last, metadata={"format": "pt"})
    path = checkpoint / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] |= dict.fromkeys(names, last.name)
    path.write_text(json.dumps(index))
    conversion = convert(checkpoint, out, device="cpu")
    assert [check.tensor for check in conversion.manifest.check] == [WEIGHT, names[0]]
    after = read_tensors(out)
    assert after[WEIGHT].shape == after[names[0]].shape == (128, 1176)
    assert torch.equal(after[names[0]], tensors[names[0]].flatten(1))


@pytest.mark.parametrize("prefix", ["visual.", ""])
def test_an_older_prefix_is_converted_too(checkpoint: Path, out: Path, prefix: str) -> None:
    rename_tensors(checkpoint, lambda name: name.replace("model.visual.", prefix))
    convert(checkpoint, out, device="cpu")
    assert read_tensors(out)[f"{prefix}patch_embed.proj.weight"].shape == (128, 1176)


def test_a_config_that_leaves_out_in_channels_is_converted(checkpoint: Path, out: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    del config["vision_config"]["in_channels"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    convert(checkpoint, out, device="cpu")
    assert read_tensors(out)[WEIGHT].shape == (128, 1176)


def test_config_keeps_its_order_its_unknown_keys_and_its_letters(
    checkpoint: Path, out: Path
) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config = {"说明": "模型 🙂", "zzz": [1.0e1], **config, "custom": None}
    text = json.dumps(config, ensure_ascii=False, indent=4).replace("10.0", "1.0e1") + "\n\n"
    (checkpoint / "config.json").write_text(text)
    convert(checkpoint, out, device="cpu")
    after = (out / "config.json").read_text()
    added = ',\n    "fusion_config": {\n        "patch_embeddings": true\n    }\n}\n\n'
    assert after == text.removesuffix("\n}\n\n") + added


def test_a_config_is_changed_in_nothing_but_the_fusion(checkpoint: Path, out: Path) -> None:
    before = json.loads((checkpoint / "config.json").read_text())
    convert(checkpoint, out, device="cpu")
    after = json.loads((out / "config.json").read_text())
    assert after == before | {"fusion_config": {"patch_embeddings": True}}


def test_the_float8_config_gets_two_entries_in_its_ignore_list(
    tiny_model: TinyModel, out: Path
) -> None:
    source = tiny_model("glm4v", quantized="float")
    convert(source, out, device="cpu")
    before, after = (json.loads((f / "config.json").read_text()) for f in (source, out))
    before["quantization_config"]["ignore"] += [MODULE, r"re:.*patch_embed\.linear_proj$"]
    assert after == before | {"fusion_config": {"patch_embeddings": True}}


def test_an_int8_checkpoint_is_converted_only_when_told_so(
    tiny_model: TinyModel, out: Path, run_cli: RunCli
) -> None:
    source = tiny_model("glm4v", quantized="int")
    refused = run_cli("convert", source, out)
    refused.assert_refused("compressed-tensors other than 8-bit float")
    assert "--allow-unsafe-quantization" in refused.stderr
    assert not out.exists()
    forced = run_cli("convert", source, out, "--allow-unsafe-quantization", "--json")
    assert forced.code == 0
    assert any("5.23" in warning for warning in forced.json["warnings"])
    ignore = json.loads((out / "config.json").read_text())["quantization_config"]["ignore"]
    assert ignore[-2:] == [MODULE, r"re:.*patch_embed\.linear_proj$"]


def test_links_of_the_hub_cache_become_files(checkpoint: Path, out: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(checkpoint.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    before = snapshot(blobs)
    convert(checkpoint, out, device="cpu")
    assert not any(path.is_symlink() for path in out.iterdir())
    assert read_tensors(out)[WEIGHT].shape == (128, 1176)
    assert snapshot(blobs) == before


def test_read_only_files_are_converted(checkpoint: Path, out: Path) -> None:
    for path in checkpoint.iterdir():
        path.chmod(0o444)
    convert(checkpoint, out, device="cpu")
    assert read_tensors(out)[WEIGHT].shape == (128, 1176)
