"""Decide which files hold the weights of a checkpoint, as transformers does, and read the index.

transformers takes `model.safetensors` wherever there is one, and the index only without it (run:
5.24.0). Of an index it takes the names of the shards, and then all that the shards hold: a list
that has more or less than that loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.json_text import loads_without_duplicates
from conv2linear.checkpoint.patch_embedding import is_part_of_patch_embedding
from conv2linear.errors import BadCheckpointError
from conv2linear.sources.base import Repository, is_inside, read_text
from conv2linear.text import plural

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
EXPLICIT_FILE = "transformers_weights"  # a key of config.json: the file to load instead of these
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class ShardList:
    """The files that hold the weights; `weight_map` is None where no index says which has what.

    Names are those of the repository. `warnings` say what is odd, and does not stop a load.
    """

    shards: tuple[str, ...]
    index: str | None = None
    weight_map: Mapping[str, str] | None = None
    warnings: tuple[str, ...] = ()


def list_shards(repository: Repository, *, prefix: str = "", explicit: Any = None) -> ShardList:
    """Return the files that transformers would load.

    `prefix` is the folder of the checkpoint in the repository, with a slash behind it; `explicit`
    is the file that its config names.

    Raises `BadCheckpointError` where there is none, where the index is not valid, and where it
    names a file that is not in the repository.
    """
    files = repository.files
    if explicit is not None:
        name = _explicit_file(explicit)
        if prefix + name not in files:
            raise BadCheckpointError(
                f"config.json: {EXPLICIT_FILE} names {name}, which is not here",
                hint="download or copy it again",
            )
        if name.endswith(".safetensors"):
            return ShardList((prefix + name,))
        return _read_index(repository, prefix, name)
    if prefix + SINGLE_FILE in files:
        beside = prefix + INDEX_FILE in files
        warnings = tuple(_warn_of_unread_index(repository, prefix)) if beside else ()
        return ShardList((prefix + SINGLE_FILE,), warnings=warnings)
    if prefix + INDEX_FILE in files:
        return _read_index(repository, prefix, INDEX_FILE)
    raise BadCheckpointError(f"{repository.label}: neither {SINGLE_FILE} nor {INDEX_FILE}")


def check_weight_map(listed: ShardList, headers: Mapping[str, Header]) -> tuple[str, ...]:
    """Return what an index says that the shards do not, as warnings.

    Raises `BadCheckpointError` where it is wrong about a patch embedding: which tensor counts must
    be beyond doubt there.
    """
    found: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for shard, header in headers.items():
        for tensor in found.keys() & header.tensors.keys():
            several.setdefault(tensor, [found[tensor]]).append(shard)
        found |= dict.fromkeys(header.tensors, shard)
    if not several and listed.weight_map in (None, found):
        return ()
    weight_map = listed.weight_map if listed.weight_map is not None else {}
    twice = sorted(several)
    absent = sorted(weight_map.keys() - found.keys())
    elsewhere = sorted(
        tensor
        for tensor in weight_map.keys() & found.keys()
        if weight_map[tensor] not in several.get(tensor, [found[tensor]])
    )
    for tensor in filter(is_part_of_patch_embedding, twice):
        raise BadCheckpointError(f"tensor {tensor!r} is in {' and in '.join(several[tensor])}")
    for tensor in filter(is_part_of_patch_embedding, [*absent, *elsewhere]):
        raise BadCheckpointError(
            f"{listed.index}: tensor {tensor!r} is expected in {weight_map[tensor]}, found in "
            f"{found.get(tensor, 'no shard')}"
        )
    unlisted = sorted(found.keys() - weight_map.keys()) if listed.weight_map is not None else []
    cases = (
        (absent, "lists {} that no shard has"),
        (unlisted, "leaves out {} that its shards have"),
        (elsewhere, "does not name the shard that has {}"),
        (twice, "leads to more than one copy of {}, and transformers takes the last"),
    )
    return tuple(
        f"{listed.index or SINGLE_FILE} {text.format(plural(len(tensors), 'tensor'))}: "
        f"{some(tensors)}"
        for tensors, text in cases
        if tensors
    )


def some(names: Iterable[str]) -> str:
    """Write the first of some names, and how many more there are."""
    listed = list(names)
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(listed[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _explicit_file(value: Any) -> str:
    is_name = isinstance(value, str) and is_inside(value)
    if not is_name or not value.endswith((".safetensors", ".safetensors.index.json")):
        raise BadCheckpointError(
            f"config.json: {EXPLICIT_FILE} is {value!r}, expected a safetensors file or its index"
        )
    return str(value)


def _read_index(repository: Repository, prefix: str, name: str) -> ShardList:
    index = _parse_index(read_text(repository, prefix + name), name)
    weight_map = {tensor: prefix + shard for tensor, shard in index["weight_map"].items()}
    shards = tuple(sorted(set(weight_map.values())))
    missing = [shard for shard in shards if shard not in repository.files]
    if missing:
        is_one = len(missing) == 1
        raise BadCheckpointError(
            f"{name}: shard {missing[0]} is missing"
            if is_one
            else f"{name}: {len(missing)} of {len(shards)} shards are missing: {some(missing)}",
            hint="is the download complete? Download or copy them again",
        )
    warnings: tuple[str, ...] = ()
    if not isinstance(index.get("metadata"), dict):
        warnings = (f'{name}: it has no object "metadata", without which transformers stops',)
    return ShardList(shards, prefix + name, weight_map, warnings)


def _parse_index(text: str, name: str) -> dict[str, Any]:
    if not text:
        raise BadCheckpointError(f"{name} is empty", hint="download or copy it again")
    try:
        index: Any = loads_without_duplicates(text)
    except ValueError as error:
        raise BadCheckpointError(f"{name} is not valid JSON: {error}") from None
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadCheckpointError(f"{name}: weight_map is missing, empty or not an object")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise BadCheckpointError(f"{name}: a shard in weight_map is not a file name")
    for shard in sorted(set(weight_map.values())):
        if not is_inside(shard):
            raise BadCheckpointError(f"{name}: shard {shard!r} is not a file in this folder")
    return dict(index)


def _warn_of_unread_index(repository: Repository, prefix: str) -> Iterator[str]:
    """Say what an index beside a single file says, if it does not lead to that file alone."""
    try:
        index = _parse_index(read_text(repository, prefix + INDEX_FILE), INDEX_FILE)
    except BadCheckpointError as error:
        yield f"{error}; transformers reads {SINGLE_FILE} instead, other engines may not"
        return
    others = sorted(set(index["weight_map"].values()) - {SINGLE_FILE})
    if others:
        yield (
            f"{INDEX_FILE}: it names {some(others)}, but transformers reads {SINGLE_FILE} and so "
            "does this conversion; vLLM and SGLang go by the index"
        )
