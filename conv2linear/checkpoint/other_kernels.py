"""Find Conv3d kernels in safetensors files that are no part of the checkpoint that is opened.

They stay as they are, and whoever loads them should know. Only headers are read, and few.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

from conv2linear.checkpoint.header import LENGTH_BYTES
from conv2linear.checkpoint.index import INDEX_FILE, some
from conv2linear.checkpoint.other_kinds import list_checkpoint_folders
from conv2linear.checkpoint.patch_embedding import is_patch_embedding
from conv2linear.errors import Conv2LinearError
from conv2linear.sources.base import Repository, read_text
from conv2linear.text import plural

_MAX_FILES = 32
_MAX_HEADER_BYTES = 16_000_000
_MAX_INDEX_BYTES = 32_000_000
_READERS = 8


def warn_of_other_kernels(
    repository: Repository, shards: Collection[str], *, prefix: str
) -> tuple[str, ...]:
    """Say which files beside the `shards` of a checkpoint have a Conv3d kernel too.

    `prefix` is the folder of the checkpoint in its repository, with a slash behind it. A file that
    cannot be read as safetensors has none, and one that is not looked at is named.
    """
    others = sorted(_candidates(repository, shards))
    looked_at = others[:_MAX_FILES]
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        has_kernel = list(pool.map(lambda name: _has_kernel(repository, name), looked_at))
    found = [name for name, has in zip(looked_at, has_kernel, strict=True) if has]
    unknown = [name for name, has in zip(looked_at, has_kernel, strict=True) if has is None]
    return tuple(_describe(repository, found, [*unknown, *others[_MAX_FILES:]], prefix))


def _describe(
    repository: Repository, found: list[str], unknown: list[str], prefix: str
) -> Iterator[str]:
    own = prefix.removesuffix("/")
    folders = {"", *list_checkpoint_folders(repository.files)} - {own}
    if "config.json" not in repository.files:
        folders.discard("")
    by_folder: dict[str, list[str]] = {}
    for name in found:
        by_folder.setdefault(_folder(name), []).append(name)
    for folder, names in sorted(by_folder.items()):
        if folder in folders:
            where, how = (
                (f"folder {folder}", f"with --subfolder {folder}")
                if folder
                else (
                    "top folder",
                    "without --subfolder",
                )
            )
            yield (
                f"the {where} has a checkpoint with a Conv3d kernel too, which stays as it is: "
                f"convert that {how}"
            )
        else:
            yield (
                f"there is a Conv3d kernel in {some(names)} too, which stays as it is: no part of "
                "this checkpoint"
            )
    if unknown:
        yield (
            f"{plural(len(unknown), 'other safetensors file')} not searched for a Conv3d kernel: "
            f"{some(unknown)}"
        )


def _candidates(repository: Repository, shards: Collection[str]) -> Iterator[str]:
    """Yield the other safetensors files, of those in an index only what may have a kernel."""
    files = repository.files
    others = [n for n in files if n.endswith(".safetensors") and n not in set(shards)]
    indexed: dict[str, dict[str, bool]] = {}
    for name in others:
        folder = _folder(name)
        if folder not in indexed:
            indexed[folder] = _read_index(repository, folder)
        if indexed[folder].get(name, True):
            yield name


def _read_index(repository: Repository, folder: str) -> dict[str, bool]:
    """Tell of each shard in a folder's index whether it should have a kernel; {} without one."""
    prefix = f"{folder}/" if folder else ""
    info = repository.files.get(prefix + INDEX_FILE)
    if info is None or info.size_bytes > _MAX_INDEX_BYTES:
        return {}
    try:
        weight_map = json.loads(read_text(repository, info.name))["weight_map"]
        has_kernel: dict[str, bool] = {}
        for tensor, shard in weight_map.items():
            name = prefix + shard
            has_kernel[name] = has_kernel.get(name, False) or is_patch_embedding(tensor)
    except (Conv2LinearError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return has_kernel


def _has_kernel(repository: Repository, name: str) -> bool | None:
    """Tell whether a file has a patch embedding of five dimensions; None if it was not searched."""
    size = repository.files[name].size_bytes
    if size < LENGTH_BYTES:
        return False
    length = int.from_bytes(repository.read(name, 0, LENGTH_BYTES), "little")
    if length > size - LENGTH_BYTES:
        return False
    if length > _MAX_HEADER_BYTES:
        return None
    raw = repository.read(name, LENGTH_BYTES, length)
    if b"patch_embed.proj.weight" not in raw:
        return False
    try:
        entries: Any = json.loads(raw)
        return any(
            is_patch_embedding(tensor) and len(entry["shape"]) == 5
            for tensor, entry in entries.items()
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _folder(name: str) -> str:
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else parent
