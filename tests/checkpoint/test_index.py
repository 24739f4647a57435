"""What counts as the weights is what transformers loads, and what is odd about it is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear import convert, inspect_checkpoint, restore, verify
from tests.support.checkpoints import INDEX, WEIGHT
from tests.support.contents import hashes, other_shard, shard_with
from tests.support.damage import edit_json
from tests.support.load_in_transformers import load, logits_of
from tests.support.models import TinyModel

SINGLE = "model.safetensors"
LAST = "model-00009-of-00009.safetensors"


@dataclass(frozen=True)
class Odd:
    """A way to publish a checkpoint that loads, and words of the warning, None for no warning."""

    change: Callable[[Path], object]
    warning: tuple[str, ...] | None
    is_sharded: bool = True


def edit_map(folder: Path, edit: Callable[[dict[str, str]], object]) -> None:
    edit_json(folder / INDEX, lambda index: edit(index["weight_map"]))


def list_more(folder: Path) -> None:
    names = {f"mtp.{number}.weight": LAST for number in range(5)}
    edit_map(folder, lambda weights: weights.update(names))


def list_less(folder: Path) -> None:
    names = sorted(load_file(other_shard(folder)))[1:]
    edit_map(folder, lambda weights: [weights.pop(name) for name in names])


def list_elsewhere(folder: Path) -> None:
    name = min(load_file(other_shard(folder)))
    edit_map(folder, lambda weights: weights.update({name: shard_with(folder).name}))


def leave_out_kernel(folder: Path) -> None:
    more = {"mtp.0.weight": shard_with(folder).name}  # so that its shard is listed
    edit_map(folder, lambda weights: (weights.pop(WEIGHT), weights.update(more)))


def store_twice(folder: Path) -> None:
    """Put zeros under the name of another tensor into a shard that is read earlier."""
    name = min(load_file(folder / LAST))
    first = min(folder.glob("*.safetensors"))
    wrong = torch.zeros_like(load_file(folder / LAST)[name])
    save_file(load_file(first) | {name: wrong}, first, metadata={"format": "pt"})


def add_index(folder: Path) -> None:
    names = dict.fromkeys(load_file(folder / SINGLE), SINGLE)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))


def add_index_of_other_shards(folder: Path) -> None:
    """Put shards with other values beside the single file, and their index."""
    tensors = {name: torch.zeros_like(t) for name, t in load_file(folder / SINGLE).items()}
    save_file(tensors, folder / LAST, metadata={"format": "pt"})
    names = dict.fromkeys(tensors, LAST)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))


def name_the_file(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "weights.safetensors")
    values = {"transformers_weights": "weights.safetensors"}
    edit_json(folder / "config.json", lambda config: config.update(values))


def name_the_index(folder: Path) -> None:
    (folder / INDEX).rename(folder / "weights.safetensors.index.json")
    values = {"transformers_weights": "weights.safetensors.index.json"}
    edit_json(folder / "config.json", lambda config: config.update(values))


ODD = {
    "lists more": Odd(list_more, ("5 tensors that no shard has", "mtp.0.weight", "and 2 more")),
    "lists less": Odd(list_less, ("leaves out", "that its shards have")),
    "lists elsewhere": Odd(list_elsewhere, ("does not name the shard that has 1 tensor",)),
    "leaves out the kernel": Odd(leave_out_kernel, ("leaves out 1 tensor", WEIGHT)),
    "stores twice": Odd(store_twice, ("more than one copy of 1 tensor", "takes the last")),
    "an index of the single file": Odd(add_index, None, is_sharded=False),
    "an index of other shards": Odd(
        add_index_of_other_shards, (LAST, "transformers reads model.safetensors"), is_sharded=False
    ),
    "an index that is none": Odd(
        lambda folder: (folder / INDEX).write_text("{"), ("not valid JSON",), is_sharded=False
    ),
    "another name": Odd(name_the_file, None, is_sharded=False),
    "another name of the index": Odd(name_the_index, None),
}


@pytest.mark.parametrize("case", ODD)
def test_what_transformers_loads_converts(tiny_model: TinyModel, tmp_path: Path, case: str) -> None:
    odd = ODD[case]
    plain = tiny_model() if odd.is_sharded else tiny_model(max_shard_size="1GB")
    folder, out = Path(shutil.copytree(plain, tmp_path / "model")), tmp_path / "linear"
    odd.change(folder)
    assert torch.equal(logits_of(folder), logits_of(plain))

    conversion = convert(folder, out, device="cpu")
    found = [w for w in conversion.warnings if odd.warning and all(x in w for x in odd.warning)]
    assert bool(found) == bool(odd.warning), conversion.warnings
    assert set(found) <= set(inspect_checkpoint(folder).warnings)
    verification = verify(out, source=folder, device="cpu")
    assert verification.passed, verification.failed
    assert set(found) <= set(verification.warnings)
    restore(out, tmp_path / "restored")
    assert hashes(tmp_path / "restored") == hashes(folder)


@pytest.mark.parametrize("case", ["lists more", "an index of the single file"])
def test_the_result_loads_too(tiny_model: TinyModel, tmp_path: Path, case: str) -> None:
    odd = ODD[case]
    plain = tiny_model() if odd.is_sharded else tiny_model(max_shard_size="1GB")
    folder, out = Path(shutil.copytree(plain, tmp_path / "model")), tmp_path / "linear"
    odd.change(folder)
    convert(folder, out, device="cpu")
    loaded = load(out, tmp_path / "logits")
    assert [*loaded.missing, *loaded.mismatched, *loaded.unexpected, *loaded.errors] == []
    assert loaded.projection_class.endswith("Linear")
    assert loaded.projection_is_the_file


def test_an_index_without_metadata_is_said_not_to_load(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model(), tmp_path / "model"))

    def forget(index: Any) -> None:
        del index["metadata"]

    edit_json(folder / INDEX, forget)
    with pytest.raises(KeyError, match="metadata"):
        logits_of(folder)
    assert any("metadata" in warning for warning in inspect_checkpoint(folder).warnings)
