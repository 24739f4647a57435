"""A converted checkpoint loads in stock transformers, and nothing but the layout has changed."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conv2linear import convert, inspect_checkpoint
from conv2linear.checkpoint.header import read_header
from conv2linear.operations.convert import Conversion
from tests.support.checkpoints import WEIGHT
from tests.support.contents import (
    manifest_of,
    read_tensors,
    sha256,
    shard_with,
    shards_of,
    snapshot,
)
from tests.support.damage import rename_tensors
from tests.support.load_in_transformers import Loaded, load, logits_of
from tests.support.models import GLM_TYPES, TinyModel
from tests.support.processes import RunCli

MODULE = "model.visual.patch_embed.linear_proj"
NEW_FILES = {"conv2linear.json", "README.md"}
EDITED_FILES = {"config.json", "README.md"}


# --- what transformers makes of it ----------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    **{model_type: {"model_type": model_type} for model_type in GLM_TYPES},
    "float16": {"model_type": "glm4v", "dtype": torch.float16},
    "float32": {"model_type": "glm4v_moe", "dtype": torch.float32},
    "patch 16, temporal 1": {"model_type": "glm4v", "patch_size": 16, "temporal_patch_size": 1},
    "single file": {"model_type": "glm_ocr", "max_shard_size": "1GB"},
    "compressed-tensors float8": {"model_type": "glm4v", "quantized": "float"},
}


def assert_loaded_whole(loaded: Loaded) -> None:
    """Check that transformers built the linear layer, and put the file's values into it."""
    assert loaded.missing == []
    assert loaded.unexpected == []
    assert loaded.mismatched == []
    assert loaded.errors == []
    assert loaded.patch_embedding_class.startswith("Fused")
    assert loaded.projection == "linear_proj"
    assert loaded.projection_class == "torch.nn.modules.linear.Linear"
    assert loaded.projection_is_the_file


def logits_tolerance(logits: torch.Tensor) -> float:
    """Allow a few roundings: both layers round their sums, in another order, before two blocks."""
    return 16 * torch.finfo(logits.dtype).eps * logits.abs().max().item()


def assert_same_logits(logits: torch.Tensor, expected: torch.Tensor) -> None:
    assert logits.dtype == expected.dtype
    assert expected.isfinite().all()
    difference = (logits.double() - expected.double()).abs().max().item()
    assert difference <= logits_tolerance(expected)


@pytest.mark.parametrize("case", CASES)
def test_stock_transformers_loads_the_result_and_gives_the_same_logits(
    tiny_model: TinyModel, out: Path, case: str
) -> None:
    source = tiny_model(**CASES[case])
    convert(source, out, device="cpu")
    loaded = load(out, out.parent / "result")
    assert_loaded_whole(loaded)
    assert_same_logits(loaded.logits, logits_of(source))


def test_transformers_loads_a_checkpoint_with_the_old_prefix(checkpoint: Path, out: Path) -> None:
    expected = logits_of(checkpoint)
    rename_tensors(checkpoint, lambda name: name.replace("model.visual.", "visual."))
    assert torch.equal(logits_of(checkpoint), expected)
    convert(checkpoint, out, device="cpu")
    loaded = load(out, out.parent / "result")
    assert_loaded_whole(loaded)
    assert_same_logits(loaded.logits, expected)


def test_the_logits_show_a_patch_embedding_in_a_wrong_layout(checkpoint: Path, out: Path) -> None:
    """The comparison above is worth something: its tolerance does not hide such a mistake."""
    convert(checkpoint, out, device="cpu")
    shard = shard_with(out)
    tensors = load_file(shard)
    kernel = tensors[WEIGHT].view(128, 3, 2, 14, 14)
    tensors[WEIGHT] = kernel.transpose(3, 4).flatten(1).contiguous()
    save_file(tensors, shard, metadata={"format": "pt"})
    loaded = load(out, out.parent / "result")
    assert_loaded_whole(loaded)
    with pytest.raises(AssertionError):
        assert_same_logits(loaded.logits, logits_of(checkpoint))


def test_without_the_skip_list_entry_the_float8_model_is_broken(
    tiny_model: TinyModel, out: Path
) -> None:
    """The entry is worth something: transformers quantises the layer without it."""
    convert(tiny_model("glm4v", quantized="float"), out, device="cpu")
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"]["ignore"] = ["lm_head"]
    (out / "config.json").write_text(json.dumps(config))
    loaded = load(out, out.parent / "result")
    assert not loaded.projection_is_the_file


# --- what has changed in the files ----------------------------------------------------------------


@pytest.fixture
def rich_checkpoint(checkpoint: Path) -> Path:
    """Return a checkpoint with all that one may hold beside its weights."""
    (checkpoint / "tokenizer.json").write_text('{"版本": "1.0"}')
    (checkpoint / "modeling_glm.py").write_text("raise SystemExit('code of a checkpoint ran')\n")
    (checkpoint / "assets").mkdir()
    (checkpoint / "assets" / "naïve name.bin").write_bytes(os.urandom(5000))
    (checkpoint / "empty").touch()
    (checkpoint / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# 模型\n")
    (checkpoint / ".git").mkdir()
    (checkpoint / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (checkpoint / ".cache" / "huggingface").mkdir(parents=True)
    (checkpoint / ".cache" / "huggingface" / "CACHEDIR.TAG").touch()
    return checkpoint


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


# --- conv2linear.json -----------------------------------------------------------------------------


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


# --- options --------------------------------------------------------------------------------------


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
    (out / "left over").touch()
    convert(checkpoint, out, device="cpu", force=True)
    assert read_tensors(out)[WEIGHT].shape == (128, 1176)
    assert not (out / "left over").exists()
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


# --- the command line -----------------------------------------------------------------------------


def test_convert_says_at_a_glance_what_it_did(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    done = run_cli("convert", checkpoint, out, "--device", "cpu")
    assert done.code == 0
    assert out.is_dir()
    for words in (WEIGHT, "[128, 3, 2, 14, 14]", "[128, 1176]", "1176 one-hot", str(out), "BF16"):
        assert words in done.stdout
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["write"]


def test_quiet_says_nothing_on_stderr(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    done = run_cli("convert", checkpoint, out, "-q")
    assert done.code == 0
    assert done.stderr == ""


def test_convert_prints_one_json_document(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    done = run_cli("convert", checkpoint, out, "--json", "--device", "cpu")
    assert done.code == 0
    assert done.stderr == ""
    document = done.json
    assert document["schema_version"] == 1
    assert document["command"] == "convert"
    assert document["dry_run"] is False
    assert document["out"] == str(out)
    assert document["warnings"] == []
    assert document["manifest"] == manifest_of(out)
    (check,) = document["checks"]
    assert check["failure"] is None
    assert check["linear_s"] > 0
    assert check["conv3d_s"] > 0


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


# --- inspect --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_inspect_says_what_a_checkpoint_is(tiny_model: TinyModel, case: str) -> None:
    source = tiny_model(**CASES[case])
    inspection = inspect_checkpoint(source)
    with safe_open(shard_with(source), framework="pt") as file:
        shape = file.get_slice(WEIGHT).get_shape()
        dtype = file.get_slice(WEIGHT).get_dtype()
    (embedding,) = inspection.embeddings
    assert embedding.name == WEIGHT
    assert embedding.shard == shard_with(source).name
    assert embedding.dtype == dtype
    assert embedding.shape == tuple(shape)
    assert embedding.linear_shape == (shape[0], math.prod(shape[1:]))
    assert inspection.model_type == CASES[case]["model_type"]
    assert inspection.layout == "conv3d"
    quantized = CASES[case].get("quantized")
    assert inspection.quantization == ("compressed-tensors" if quantized else None)
    assert inspection.shard_count == len(shards_of(source))
    files = [path for path in source.iterdir() if path.is_file()]
    assert inspection.file_count == len(files)
    assert inspection.total_bytes == sum(path.stat().st_size for path in files)
    assert inspection.full is not None
    assert inspection.changed_only is not None
    assert inspection.full.download_bytes == inspection.changed_only.download_bytes == 0
    assert inspection.full.write_bytes > inspection.total_bytes  # config.json grows
    shard_bytes = shard_with(source).stat().st_size
    others = sum(p.stat().st_size for p in files if p.name != "config.json")
    assert inspection.full.write_bytes - inspection.changed_only.write_bytes == others - shard_bytes
    assert inspection.refusal_reason is None


def test_inspect_sees_the_linear_and_the_fused_layout(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu")
    inspection = inspect_checkpoint(out)
    assert inspection.layout == "linear"
    assert inspection.refusal_reason is not None
    rename_tensors(out, lambda name: name.replace("patch_embed.proj", "patch_embed.linear_proj"))
    assert inspect_checkpoint(out).layout == "fused"


def test_inspect_says_why_a_quantised_checkpoint_cannot_be_converted(tiny_model: TinyModel) -> None:
    inspection = inspect_checkpoint(tiny_model("glm4v", quantized="int"))
    assert inspection.quantization == "compressed-tensors"
    assert inspection.refusal_reason is not None
    assert "5.23" in inspection.refusal_reason


def test_inspect_prints_one_json_document(checkpoint: Path, run_cli: RunCli) -> None:
    done = run_cli("inspect", checkpoint, "--json")
    assert done.code == 0
    assert done.stderr == ""
    document = done.json
    assert document["schema_version"] == 1
    assert document["command"] == "inspect"
    assert document["source"] == str(checkpoint)
    assert document["layout"] == "conv3d"
    assert document["embeddings"][0]["linear_shape"] == [128, 1176]


def test_inspect_says_the_same_in_words(checkpoint: Path, run_cli: RunCli) -> None:
    done = run_cli("inspect", checkpoint)
    assert done.code == 0
    for words in ("glm4v", "conv3d", WEIGHT, "[128, 3, 2, 14, 14]", "[128, 1176]", "BF16"):
        assert words in done.stdout


def test_inspect_reads_headers_and_no_tensor(checkpoint: Path) -> None:
    """Shards whose data cannot be read: each is a hole behind its header."""
    for path in shards_of(checkpoint).values():
        header = read_header(path)
        size = path.stat().st_size
        os.truncate(path, header.data_start)
        os.truncate(path, size)
        assert path.stat().st_size == size
    before = {path: path.stat().st_blocks for path in shards_of(checkpoint).values()}
    assert inspect_checkpoint(checkpoint).layout == "conv3d"
    assert {path: path.stat().st_blocks for path in shards_of(checkpoint).values()} == before
