"""`restore` is the inverse of `convert`: with the record exactly, without it by config.json."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from conv2linear import convert, inspect_checkpoint, restore
from conv2linear.cli.document import SCHEMA_VERSION
from conv2linear.errors import CheckFailedError, NothingToConvertError, OutputError
from tests.support.checkpoints import WEIGHT
from tests.support.contents import hashes, shard_with, split_shard
from tests.support.damage import edit_json, flip_bit, replace_header
from tests.support.models import GLM_TYPES, TinyModel
from tests.support.processes import RunCli


def reformat_header(path: Path, dump: Callable[[dict[str, Any]], bytes]) -> None:
    """Write the header of a shard in another format; the data stays."""
    replace_header(path, lambda text: dump(json.loads(text)))
    with safe_open(path, framework="pt") as shard:
        assert list(shard.keys())  # the library itself reads it


@pytest.mark.parametrize("model_type", GLM_TYPES)
@pytest.mark.parametrize("single", [False, True], ids=["sharded", "single file"])
def test_the_round_trip_gives_every_file_back(
    model_type: str, single: bool, tiny_model: TinyModel, tmp_path: Path
) -> None:
    source = tiny_model(model_type, **({"max_shard_size": "1GB"} if single else {}))
    convert(source, tmp_path / "linear", device="cpu")
    restoration = restore(tmp_path / "linear", tmp_path / "restored")
    assert restoration.exact
    assert hashes(tmp_path / "restored") == hashes(source)
    # And the other way round: what is restored converts to the same bytes.
    convert(tmp_path / "restored", tmp_path / "again", device="cpu")
    assert hashes(tmp_path / "again") == hashes(tmp_path / "linear")


def test_quantized_checkpoints_come_back_too(tiny_model: TinyModel, tmp_path: Path) -> None:
    source = tiny_model("glm4v", quantized="float")
    convert(source, tmp_path / "linear", device="cpu")
    restore(tmp_path / "linear", tmp_path / "restored")
    assert hashes(tmp_path / "restored") == hashes(source)


FORMATS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "spaces": lambda h: json.dumps(h, indent=3).encode(),
    "keys in another order": lambda h: json.dumps(
        {k: dict(reversed(v.items())) for k, v in reversed(h.items())}
    ).encode(),
    "escapes": lambda h: json.dumps(h).replace("model.visual", "mod\\u0065l.vis\\u0075al").encode(),
    "non-ASCII metadata": lambda h: json.dumps(
        h | {"__metadata__": {"format": "pt", "name": "模型 é 😀"}}, ensure_ascii=False
    ).encode(),
    "leading and trailing space": lambda h: b"  " + json.dumps(h).encode() + b"   ",
    "unaligned": lambda h: json.dumps(h).encode() + b" ",
    "unknown fields": lambda h: json.dumps(
        {k: v | {"note": {"shape": [9]}} if "shape" in v else v for k, v in h.items()}
    ).encode(),
}


@pytest.mark.parametrize("header", FORMATS)
def test_the_headers_own_format_comes_back(header: str, checkpoint: Path, tmp_path: Path) -> None:
    reformat_header(shard_with(checkpoint), FORMATS[header])
    before = hashes(checkpoint)
    convert(checkpoint, tmp_path / "linear", device="cpu")
    assert inspect_checkpoint(tmp_path / "linear").layout == "linear"
    restore(tmp_path / "linear", tmp_path / "restored")
    assert hashes(tmp_path / "restored") == before


def test_without_a_record_the_kernel_comes_from_the_config(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    source = tiny_model("glm4v_moe")
    convert(source, tmp_path / "linear", device="cpu", model_card=False)
    (tmp_path / "linear" / "conv2linear.json").unlink()
    assert not restore(tmp_path / "linear", tmp_path / "restored").exact
    assert hashes(tmp_path / "restored") == hashes(source)


def test_without_a_record_a_header_that_is_too_short_grows(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    source = tiny_model("glm4v")
    convert(source, tmp_path / "linear", device="cpu", model_card=False)
    (tmp_path / "linear" / "conv2linear.json").unlink()
    shard = shard_with(tmp_path / "linear")
    reformat_header(shard, lambda h: json.dumps(h, separators=(",", ":")).encode())
    restore(tmp_path / "linear", tmp_path / "restored")
    restored = load_file(tmp_path / "restored" / shard.name)
    original = load_file(source / shard.name)
    assert restored.keys() == original.keys()
    assert all(restored[name].equal(original[name]) for name in original)
    assert restored[WEIGHT].shape == original[WEIGHT].shape
    header, _ = split_shard(tmp_path / "restored" / shard.name)
    assert len(header) % 8 == 0
    assert inspect_checkpoint(tmp_path / "restored").layout == "conv3d"


def test_a_weight_that_was_changed_is_not_restored(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    flip_bit(tmp_path / "linear", WEIGHT)
    with pytest.raises(CheckFailedError, match=WEIGHT):
        restore(tmp_path / "linear", tmp_path / "restored")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["linear", "model"]


def test_a_record_that_was_changed_is_not_followed(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    record = tmp_path / "linear" / "conv2linear.json"
    record.write_text(record.read_text().replace('"[128,3,2,14,14]"', '"[128, 3,2,14,14]"'))
    with pytest.raises(CheckFailedError, match="header"):
        restore(tmp_path / "linear", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_conv3d_checkpoint_has_nothing_to_restore(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToConvertError, match="conv3d"):
        restore(checkpoint, tmp_path / "restored")


def test_an_output_that_exists_is_replaced_only_by_force(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    convert(checkpoint, tmp_path / "restored", device="cpu")
    with pytest.raises(OutputError, match="exists"):
        restore(tmp_path / "linear", tmp_path / "restored")
    restore(tmp_path / "linear", tmp_path / "restored", force=True)
    assert hashes(tmp_path / "restored") == hashes(checkpoint)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["linear", "model", "restored"]


def test_hard_links_share_unchanged_files_and_only_those(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu", hardlink=True)
    restore(tmp_path / "linear", tmp_path / "restored", hardlink=True)
    assert hashes(tmp_path / "restored") == hashes(checkpoint)
    changed = {shard_with(checkpoint).name, "config.json"}
    for name in hashes(checkpoint):
        same = (checkpoint / name).samefile(tmp_path / "restored" / name)
        assert same == (name not in changed), name


def test_restoring_an_overlay_gives_the_sources_files_back(
    checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / "README.md").write_text("# A model\n")
    convert(checkpoint, tmp_path / "overlay", device="cpu", changed_only=True)
    restoration = restore(tmp_path / "overlay", tmp_path / "restored")
    assert restoration.partial
    expected = {shard_with(checkpoint).name, "config.json", "README.md"}
    found = hashes(tmp_path / "restored")
    assert found == {name: h for name, h in hashes(checkpoint).items() if name in expected}


def test_restore_never_imports_torch(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    program = (
        "import sys; from conv2linear import restore; restore(*sys.argv[1:]); "
        "sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    )
    command = [sys.executable, "-c", program, tmp_path / "linear", tmp_path / "restored"]
    subprocess.run(list(map(str, command)), check=True)


def test_the_command_line_says_what_came_back(
    checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    done = run_here("restore", tmp_path / "linear", tmp_path / "restored", "--json")
    assert done.code == 0
    assert done.json["schema_version"] == SCHEMA_VERSION
    assert done.json["exact"]
    actions = {file["name"]: file["action"] for file in done.json["files"]}
    assert actions["config.json"] == "edit"
    assert actions[shard_with(checkpoint).name] == "reshape"
    shutil.rmtree(tmp_path / "restored")
    done = run_here("restore", tmp_path / "linear", tmp_path / "restored")
    assert "with the record" in done.stdout


def test_a_config_that_became_one_of_an_unsupported_type_is_a_failed_check(
    checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    config, record = (tmp_path / "linear" / name for name in ("config.json", "conv2linear.json"))
    text = config.read_text()
    found = json.loads(text)["model_type"]
    config.write_text(text.replace(f'"{found}"', '"' + "x" * len(found) + '"'))
    # The record has no hash that shows it, as records of earlier versions may have none.
    edit_json(record, lambda r: [f.update(sha256=None) for f in r["files"]])
    done = run_here("restore", tmp_path / "linear", tmp_path / "restored")
    assert done.code == 1
    assert "is not what its record says: " in done.stderr
    assert "model type 'xxx" in done.stderr
    assert not (tmp_path / "restored").exists()
