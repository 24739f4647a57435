"""A checkpoint in a folder or on the Hub: its files, headers and patch embeddings.

Everything here is read and checked before anything is decided; no tensor is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig, parse_config
from conv2linear.checkpoint.header import LENGTH_BYTES, Header, header_length, parse_header
from conv2linear.checkpoint.index import SINGLE_FILE, check_weight_map, read_weight_map
from conv2linear.checkpoint.patch_embedding import Layout, PatchEmbedding, find_patch_embeddings
from conv2linear.errors import BadCheckpointError, SourceChangedError
from conv2linear.paths import StrPath
from conv2linear.sources.base import FileInfo, Repository, read_text
from conv2linear.sources.open import open_source

_HEADER_READERS = 8


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint; `headers` has one entry for each shard, by file name."""

    repository: Repository
    config: ModelConfig
    headers: Mapping[str, Header]
    patch_embeddings: tuple[PatchEmbedding, ...]

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """All files by name."""
        return self.repository.files

    @property
    def layout(self) -> Layout:
        """The layout of the patch embeddings: conv3d, linear or fused."""
        return self.patch_embeddings[0].layout

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(info.size_bytes for info in self.files.values())

    def read_tensor(self, shard: str, name: str) -> bytes:
        """Read the bytes of one tensor from its shard."""
        start, end = self.headers[shard].byte_range(name)
        content = self.repository.read(shard, start, end - start)
        if len(content) != end - start:
            raise SourceChangedError(f"{shard}: cut off inside tensor {name!r}")
        return content

    def read_bias(self, embedding: PatchEmbedding) -> bytes | None:
        """Read the bytes of a patch embedding's bias, None where it has none.

        It is `[O]`, in the weight's dtype: that was checked when the checkpoint was opened.
        """
        if embedding.bias is None or embedding.bias_shard is None:
            return None
        return self.read_tensor(embedding.bias_shard, embedding.bias)


def read_checkpoint(repository: Repository, *, is_overlay: bool = False) -> Checkpoint:
    """Read and check config, index and every header of a checkpoint.

    An overlay has only some of the shards and no index: what is there is read.

    Raises `BadCheckpointError` where the files break a rule or contradict each other, and
    `UnsupportedCheckpointError` where there is no patch embedding that could be linear.
    """
    config = parse_config(_require_text(repository, CONFIG_NAME))
    geometry = config.geometry
    weight_map = None if is_overlay else read_weight_map(repository)
    if is_overlay:
        shards = sorted(name for name in repository.files if name.endswith(".safetensors"))
    else:
        shards = sorted(set(weight_map.values())) if weight_map else [SINGLE_FILE]
    headers = _read_headers(repository, shards)
    if weight_map is not None:
        check_weight_map(weight_map, headers)
    has_bias = config.supported_type.has_bias and not is_overlay  # it may lie in another shard
    embeddings = find_patch_embeddings(headers, geometry, has_bias=has_bias)
    return Checkpoint(repository, config, headers, embeddings)


def _require_text(repository: Repository, name: str) -> str:
    if name not in repository.files:
        raise BadCheckpointError(
            f"{repository.label}: no {name}",
            hint="is this the folder of a transformers checkpoint?",
        )
    return read_text(repository, name)


def _read_headers(repository: Repository, shards: list[str]) -> dict[str, Header]:
    with ThreadPoolExecutor(max_workers=_HEADER_READERS) as pool:
        headers = pool.map(lambda shard: _read_header(repository, shard), shards)
        return dict(zip(shards, headers, strict=True))


def _read_header(repository: Repository, shard: str) -> Header:
    size = repository.files[shard].size_bytes
    prefix = repository.read(shard, 0, min(size, LENGTH_BYTES))
    length = header_length(prefix, file_bytes=size, label=shard)
    raw = repository.read(shard, LENGTH_BYTES, length)
    if len(raw) != length:
        raise SourceChangedError(f"{shard}: cut off inside the header")
    return parse_header(raw, file_bytes=size, label=shard)


def open_checkpoint(source: StrPath, *, revision: str | None = None) -> Checkpoint:
    """Open a checkpoint: a folder that exists, or else `org/name[@revision]` on the Hub.

    Raises `SourceNotFoundError`, `HubError`, `BadCheckpointError` or `UnsupportedCheckpointError`.
    """
    return read_checkpoint(open_source(source, revision=revision))
