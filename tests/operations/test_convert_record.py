"""`conv2linear.json` says what was done, the same for the same input."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from conv2linear import convert
from tests.support.checkpoints import WEIGHT
from tests.support.contents import (
    manifest_of,
    sha256,
    shard_with,
    snapshot,
)


def test_the_manifest_records_weights_headers_files_and_edits(
    rich_checkpoint: Path, out: Path
) -> None:
    convert(rich_checkpoint, out, device="cpu")
    manifest = manifest_of(out)
    assert manifest["schema_version"] == 1
    assert manifest["source"] is None
    assert manifest["model_type"] == "glm4v"
    shard = shard_with(rich_checkpoint)
    tensor = load_file(shard)[WEIGHT]
    record = next(t for t in manifest["tensors"] if t["name"] == WEIGHT)
    assert record == {
        "name": WEIGHT,
        "shard": shard.name,
        "dtype": "BF16",
        "shape_before": [128, 3, 2, 14, 14],
        "shape_after": [128, 1176],
        "shape_text": "[128,3,2,14,14]",
        "sha256": sha256(tensor.view(torch.uint8).numpy().tobytes()),
    }
    (entry,) = manifest["shards"]
    assert entry["name"] == shard.name
    for key, folder in (("before", rich_checkpoint), ("after", out)):
        content = (folder / shard.name).read_bytes()
        header = content[8 : 8 + int.from_bytes(content[:8], "little")]
        assert entry[f"header_sha256_{key}"] == sha256(header)
    files = {file["name"]: file for file in manifest["files"]}
    assert set(files) == set(snapshot(out)) - {"conv2linear.json"}
    for name, file in files.items():
        content = (out / name).read_bytes()
        assert file["size_bytes"] == len(content)
        assert file["sha256"] in (None, sha256(content))
    originals = {edit["name"]: edit["original"] for edit in manifest["edits"]}
    assert originals == {
        name: (rich_checkpoint / name).read_text() for name in ("README.md", "config.json")
    }


def test_the_manifest_records_the_check(checkpoint: Path, out: Path) -> None:
    conversion = convert(checkpoint, out, device="cpu")
    (record,) = manifest_of(out)["check"]
    (check,) = conversion.checks
    assert check.linear is not None
    assert record["tensor"] == WEIGHT
    assert record["basis_patches"] == 1176
    assert record["linear_max_abs_error"] == check.linear.max_abs
    assert record["linear_max_error_over_bound"] == check.linear.max_over_bound
    assert record["device"] == "cpu"
    assert record["torch"] == torch.__version__


def test_the_same_input_gives_the_same_output_byte_for_byte(
    rich_checkpoint: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(rich_checkpoint, elsewhere)
    convert(rich_checkpoint, tmp_path / "a", device="cpu", workers=1)
    convert(elsewhere, tmp_path / "b", device="cpu", workers=4)
    contents = [
        {name: content for name, (content, _, _) in snapshot(tmp_path / folder).items()}
        for folder in ("a", "b")
    ]
    assert contents[0] == contents[1]
    assert str(tmp_path).encode() not in contents[0]["conv2linear.json"]


def test_a_manifest_that_the_source_had_is_replaced(checkpoint: Path, out: Path) -> None:
    (checkpoint / "conv2linear.json").write_text("left over")
    convert(checkpoint, out, device="cpu")
    assert manifest_of(out)["schema_version"] == 1
