"""An index that leads elsewhere, or contradicts the shards, is refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.checkpoints import INDEX, WEIGHT
from tests.support.contents import other_shard, shard_with
from tests.support.damage import (
    edit_json,
)
from tests.support.processes import Refuse


@pytest.mark.parametrize(
    "shard",
    ["../model.safetensors", "/etc/passwd", "a/../../b", "", ".", "a//b", "a\\b", "a\0b", 1, None],
)
def test_an_index_that_leads_out_of_the_folder(
    checkpoint: Path, refuse: Refuse, shard: Any
) -> None:
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].update({WEIGHT: shard}))
    refuse(INDEX, "shard")


def test_an_index_that_leads_to_a_shard_outside_that_exists(
    checkpoint: Path, refuse: Refuse
) -> None:
    path = shard_with(checkpoint)
    shutil.copy(path, checkpoint.parent / "outside.safetensors")
    edit_json(
        checkpoint / INDEX,
        lambda index: index["weight_map"].update({WEIGHT: "../outside.safetensors"}),
    )
    refuse(INDEX, "'../outside.safetensors'")


def test_a_shard_that_is_missing(checkpoint: Path, refuse: Refuse) -> None:
    path = other_shard(checkpoint)
    path.unlink()
    refuse(INDEX, path.name, "missing")


def test_a_tensor_in_two_shards(checkpoint: Path, refuse: Refuse) -> None:
    path = other_shard(checkpoint)
    tensors = load_file(path)
    save_file(tensors | {WEIGHT: torch.zeros(128, 1176)}, path)
    refuse(WEIGHT, path.name, shard_with(checkpoint).name)


def test_a_tensor_that_the_index_puts_into_another_shard(checkpoint: Path, refuse: Refuse) -> None:
    path, wrong = other_shard(checkpoint), shard_with(checkpoint).name
    name = min(load_file(path))
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].update({name: wrong}))
    refuse(INDEX, name, path.name, wrong)


def test_a_tensor_that_the_index_does_not_have(checkpoint: Path, refuse: Refuse) -> None:
    path = other_shard(checkpoint)
    name = min(load_file(path))
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].pop(name))
    refuse(INDEX, name, path.name, "no shard")


def test_a_tensor_that_only_the_index_has(checkpoint: Path, refuse: Refuse) -> None:
    shard = shard_with(checkpoint).name
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].update({"a": shard}))
    refuse(INDEX, "'a'", "no shard")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "weight_map"),
        (b"{}", "weight_map"),
        (b'{"weight_map": {}}', "weight_map"),
        (b'{"weight_map": []}', "weight_map"),
        (b'{"weight_map": {"a": "b", "a": "c"}}', "duplicate key 'a'"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_text_that_is_not_an_index(
    checkpoint: Path, refuse: Refuse, text: bytes, words: str
) -> None:
    (checkpoint / INDEX).write_bytes(text)
    refuse(INDEX, words)


def test_an_index_beside_a_single_file(checkpoint: Path, refuse: Refuse) -> None:
    save_file({"a": torch.zeros(1)}, checkpoint / "model.safetensors")
    refuse("both model.safetensors and model.safetensors.index.json")


def test_a_checkpoint_without_weights(checkpoint: Path, refuse: Refuse) -> None:
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / INDEX]:
        path.unlink()
    refuse("neither model.safetensors nor model.safetensors.index.json")


def test_a_checkpoint_with_pickled_weights_only(checkpoint: Path, refuse: Refuse) -> None:
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / INDEX]:
        path.unlink()
    # Unpickled, this would end the process with code 77.
    (checkpoint / "pytorch_model.bin").write_bytes(b"cos\n_exit\n(I77\ntR.")
    assert "pickled weights are never opened" in refuse("neither").stderr
