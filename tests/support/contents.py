"""What lies in a folder: files, shards and tensors, read without the package that is tested."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.checkpoints import BIAS, MANIFEST, WEIGHT

if TYPE_CHECKING:
    import torch

Snapshot = dict[str, tuple[bytes, int, int]]


def snapshot(folder: Path) -> Snapshot:
    """Return content, mode and modification time of every file in a folder."""
    return {
        name: (content, (folder / name).stat().st_mode, (folder / name).stat().st_mtime_ns)
        for name, content in read_files(folder).items()
    }


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    return {name: sha256(content) for name, content in read_files(folder).items()}


def sha256(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return the values of a conv2linear.json."""
    values: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return values


def shards_of(folder: Path) -> dict[str, Path]:
    """Return the shards of a checkpoint by name."""
    return {path.name: path for path in sorted(folder.glob("*.safetensors"))}


def header_of(shard: Path) -> dict[str, Any]:
    """Return the entries of a shard's header."""
    header, _ = split_shard(shard)
    entries: dict[str, Any] = json.loads(header)
    return entries


def split_shard(shard: Path) -> tuple[bytes, int]:
    """Return the text of a shard's header, and where its data begins."""
    with shard.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
        return header, file.tell()


def shard_with(folder: Path, name: str = WEIGHT) -> Path:
    """Return the shard that holds a tensor."""
    for path in shards_of(folder).values():
        if name in header_of(path):
            return path
    raise AssertionError(f"no {name} in {folder}")


def other_shard(folder: Path) -> Path:
    """Return a shard that holds several tensors, and no part of the patch embedding."""
    for path in shards_of(folder).values():
        names = header_of(path).keys() - {"__metadata__"}
        if len(names) > 1 and not names & {WEIGHT, BIAS}:
            return path
    raise AssertionError(f"every shard of {folder} holds one tensor or the patch embedding")


def byte_range(shard: Path, name: str) -> tuple[int, int]:
    """Return where the bytes of a tensor begin and end in a shard."""
    _, data = split_shard(shard)
    start, end = header_of(shard)[name]["data_offsets"]
    return data + start, data + end


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a checkpoint with the safetensors library."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for path in shards_of(folder).values():
        tensors |= load_file(path)
    return tensors
