"""Ways to change a checkpoint in its folder, most of them for the worse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from conv2linear.record.consistency import complete_listing
from conv2linear.record.manifest import dump_manifest, parse_manifest
from tests.support.checkpoints import INDEX, MANIFEST, WEIGHT
from tests.support.contents import byte_range, header_of, shard_with, shards_of, split_shard

Edit = Callable[[Any], object]


def edit_json(path: Path, edit: Edit) -> None:
    """Change the values of a JSON file in place."""
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values, indent=2) + "\n")


def identify_source_anew(folder: Path) -> None:
    """Let a record that was changed identify its source again, as the version that wrote it would.

    What that is then is not what such a test is about.
    """
    path = folder / MANIFEST
    path.write_text(dump_manifest(complete_listing(parse_manifest(path.read_text()))))


def overwrite(path: Path, at: int, content: bytes) -> None:
    """Put bytes over those that a file has at an offset."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def edit_header(shard: Path, edit: Edit) -> None:
    """Change the entries of a header in its place; the new text must not be longer."""
    text, start = split_shard(shard)
    entries = header_of(shard)
    edit(entries)
    changed = json.dumps(entries, separators=(",", ":")).encode()
    assert len(changed) <= len(text)
    overwrite(shard, start - len(text), changed.ljust(len(text)))


def replace_header(shard: Path, edit: Callable[[str], str | bytes]) -> None:
    """Write a shard with another text of its header, and the length to match."""
    text, start = split_shard(shard)
    data = shard.read_bytes()[start:]
    changed = edit(text.decode())
    raw = changed if isinstance(changed, bytes) else changed.encode()
    shard.write_bytes(len(raw).to_bytes(8, "little") + raw + data)


def flip_bit(folder: Path, name: str = WEIGHT, *, at: int = 0) -> None:
    """Flip the lowest bit of one byte of a tensor; `at` counts the bytes of the tensor."""
    path = shard_with(folder, name)
    place = byte_range(path, name)[0] + at
    overwrite(path, place, bytes([path.read_bytes()[place] ^ 1]))


def change_values(
    folder: Path, change: Callable[[torch.Tensor], torch.Tensor], *, name: str = WEIGHT
) -> None:
    """Put other values into a tensor, of the same dtype and number; the header stays."""
    path = shard_with(folder, name)
    start, end = byte_range(path, name)
    changed = change(load_file(path)[name])
    content = bytes(changed.contiguous().view(torch.uint8).flatten().tolist())
    assert len(content) == end - start
    overwrite(path, start, content)


def swap_rows(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight whose first two rows are exchanged."""
    return weight[[1, 0, *range(2, len(weight))]]


def replace_tensor(
    folder: Path, name: str, tensor: torch.Tensor | None, *, new_name: str | None = None
) -> None:
    """Save a shard with one tensor replaced, renamed or (None) left out, and the index to match."""
    path = shard_with(folder, name)
    tensors = load_file(path)
    del tensors[name]
    added = {} if tensor is None else {new_name or name: tensor}
    save_file(tensors | added, path, metadata={"format": "pt"})

    def edit(index: Any) -> None:
        del index["weight_map"][name]
        index["weight_map"] |= dict.fromkeys(added, path.name)

    edit_json(folder / INDEX, edit)


def rename_tensors(folder: Path, rename: Callable[[str], str]) -> None:
    """Save every shard, and the index, under other names of the tensors."""
    for path in shards_of(folder).values():
        renamed = {rename(name): tensor for name, tensor in load_file(path).items()}
        save_file(renamed, path, metadata={"format": "pt"})

    def edit(index: Any) -> None:
        index["weight_map"] = {rename(name): s for name, s in index["weight_map"].items()}

    edit_json(folder / INDEX, edit)
