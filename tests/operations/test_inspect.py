"""`inspect` says what a checkpoint is and what converting it would take."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from safetensors import safe_open

from conv2linear import convert, inspect_checkpoint
from conv2linear.checkpoint.header import read_header
from conv2linear.cli.document import SCHEMA_VERSION
from tests.operations.cases import CASES
from tests.support.checkpoints import WEIGHT
from tests.support.contents import (
    shard_with,
    shards_of,
)
from tests.support.damage import rename_tensors
from tests.support.models import TinyModel
from tests.support.processes import RunCli


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


def test_inspect_says_why_a_quantized_checkpoint_cannot_be_converted(tiny_model: TinyModel) -> None:
    inspection = inspect_checkpoint(tiny_model("glm4v", quantized="int"))
    assert inspection.quantization == "compressed-tensors"
    assert inspection.refusal_reason is not None
    assert "5.23" in inspection.refusal_reason


def test_inspect_prints_one_json_document(checkpoint: Path, run_cli: RunCli) -> None:
    done = run_cli("inspect", checkpoint, "--json")
    assert done.code == 0
    assert done.stderr == ""
    document = done.json
    assert document["schema_version"] == SCHEMA_VERSION
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
