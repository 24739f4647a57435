"""An index that leads elsewhere, or contradicts the shards, is refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.checkpoints import BIAS, INDEX, WEIGHT
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


@pytest.mark.parametrize("name", [WEIGHT, BIAS])
def test_a_lie_about_the_patch_embedding(checkpoint: Path, refuse: Refuse, name: str) -> None:
    right, wrong = shard_with(checkpoint, name).name, other_shard(checkpoint).name
    # The right shard stays in the list: something else of it is still expected there.
    more = {name: wrong, "something.else": right}
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].update(more))
    refuse(INDEX, name, wrong, right)


def test_a_patch_embedding_that_only_the_index_has(checkpoint: Path, refuse: Refuse) -> None:
    name, shard = "visual.patch_embed.proj.bias", shard_with(checkpoint).name
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].update({name: shard}))
    refuse(INDEX, name, shard, "no shard")


def test_a_patch_embedding_in_a_file_that_the_index_does_not_name(
    checkpoint: Path, refuse: Refuse
) -> None:
    shard = shard_with(checkpoint).name

    def forget(index: Any) -> None:
        index["weight_map"] = {n: s for n, s in index["weight_map"].items() if s != shard}

    edit_json(checkpoint / INDEX, forget)
    assert shard in refuse("no patch_embed.proj.weight in any shard").stderr


def test_several_shards_that_are_missing(checkpoint: Path, refuse: Refuse) -> None:
    for path in sorted(checkpoint.glob("*.safetensors"))[:5]:
        path.unlink()
    refuse(INDEX, "5 of 9 shards are missing", "and 2 more")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
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


def test_a_single_file_counts_and_not_the_index_beside_it(checkpoint: Path, refuse: Refuse) -> None:
    save_file({"a": torch.zeros(1)}, checkpoint / "model.safetensors")
    refuse("no patch_embed.proj.weight in any shard")


@pytest.mark.parametrize("name", ["../model.safetensors", "weights.bin", 1, ["a"], ""])
def test_a_config_that_names_weights_that_cannot_be(
    checkpoint: Path, refuse: Refuse, name: Any
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c.update(transformers_weights=name))
    refuse("transformers_weights", "expected a safetensors file or its index")


def test_a_config_that_names_weights_that_are_not_here(checkpoint: Path, refuse: Refuse) -> None:
    values = {"transformers_weights": "other.safetensors"}
    edit_json(checkpoint / "config.json", lambda c: c.update(values))
    refuse("transformers_weights", "other.safetensors", "not here")


def test_a_checkpoint_without_weights(checkpoint: Path, refuse: Refuse) -> None:
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / INDEX]:
        path.unlink()
    refuse("neither model.safetensors nor model.safetensors.index.json")


def test_a_checkpoint_with_pickled_weights_only(checkpoint: Path, refuse: Refuse) -> None:
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / INDEX]:
        path.unlink()
    # Unpickled, this would end the process with code 77.
    (checkpoint / "pytorch_model.bin").write_bytes(b"cos\n_exit\n(I77\ntR.")
    assert "they are never opened" in refuse("neither", "pickled files").stderr
