"""Read the index of a sharded checkpoint: which tensor lies in which shard."""

from __future__ import annotations

from collections.abc import Mapping

from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.json_text import loads_without_duplicates
from conv2linear.errors import BadCheckpointError
from conv2linear.sources.base import FileInfo, Repository, is_inside, read_text

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def read_weight_map(repository: Repository) -> dict[str, str] | None:
    """Return tensor name -> shard name from the index, or None for a single-file checkpoint.

    Raises `BadCheckpointError` where it is not clear which files count, where the index is not
    valid, and where it names a file that is not in the repository.
    """
    files = repository.files
    if INDEX_FILE not in files:
        if SINGLE_FILE not in files:
            raise BadCheckpointError(
                f"{repository.label}: neither {SINGLE_FILE} nor {INDEX_FILE}",
                hint=_hint_without_weights(files),
            )
        return None
    if SINGLE_FILE in files:
        raise BadCheckpointError(
            f"{repository.label}: both {SINGLE_FILE} and {INDEX_FILE}",
            hint="it is not clear which one counts: remove the one that is left over",
        )
    weight_map = _parse_weight_map(read_text(repository, INDEX_FILE))
    for shard in sorted(set(weight_map.values())):
        if not is_inside(shard):
            raise BadCheckpointError(f"{INDEX_FILE}: shard {shard!r} is not a file in this folder")
        if shard not in files:
            raise BadCheckpointError(
                f"{INDEX_FILE}: shard {shard} is missing", hint="download or copy it again"
            )
    return weight_map


def check_weight_map(weight_map: Mapping[str, str], headers: Mapping[str, Header]) -> None:
    """Raise `BadCheckpointError` where a tensor is not where the index says, or in two shards."""
    found: dict[str, str] = {}
    for shard, header in headers.items():
        for tensor in header.tensors:
            if tensor in found:
                raise BadCheckpointError(f"tensor {tensor!r} is in {found[tensor]} and in {shard}")
            found[tensor] = shard
    if found == weight_map:
        return
    tensor = min(t for t in found.keys() | weight_map.keys() if found.get(t) != weight_map.get(t))
    raise BadCheckpointError(
        f"{INDEX_FILE}: tensor {tensor!r} is expected in {weight_map.get(tensor, 'no shard')}, "
        f"found in {found.get(tensor, 'no shard')}"
    )


def _parse_weight_map(text: str) -> dict[str, str]:
    try:
        index = loads_without_duplicates(text)
    except ValueError as error:
        raise BadCheckpointError(f"{INDEX_FILE} is not valid JSON: {error}") from None
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadCheckpointError(f"{INDEX_FILE}: weight_map is missing, empty or not an object")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise BadCheckpointError(f"{INDEX_FILE}: a shard in weight_map is not a file name")
    return weight_map


def _hint_without_weights(files: Mapping[str, FileInfo]) -> str:
    if any(name.endswith((".bin", ".pt", ".pth")) for name in files):
        return "pickled weights are never opened: save the model with safetensors first"
    return "is the download complete?"
