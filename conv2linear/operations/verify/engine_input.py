"""What an engine loads of a checkpoint: its config, all headers, and where the bytes are.

An overlay has only some of the shards. The others are its source's: the one that the caller names,
or else the one on record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conv2linear.checkpoint.checkpoint import Checkpoint, open_checkpoint, read_config_and_headers
from conv2linear.checkpoint.config import ModelConfig
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.patch_embedding import (
    bias_name,
    is_fused_patch_embedding,
    is_patch_embedding,
)
from conv2linear.errors import SourceChangedError
from conv2linear.operations.verify.needs import SkippedError, need_linear
from conv2linear.operations.verify.subject import (
    FINDINGS,
    RECORDED,
    Subject,
    locate_source,
)
from conv2linear.sources.base import Repository
from conv2linear.sources.folder import Folder


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it lies in a shard."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class StoredProjection:
    """Weight and bias of a patch embedding as they lie in the shards, whatever is wrong with it."""

    weight: StoredTensor
    bias: StoredTensor | None


@dataclass(frozen=True)
class EngineInput:
    """Config and headers of a checkpoint; `repositories` say where each shard is."""

    config: ModelConfig
    headers: Mapping[str, Header]
    repositories: Mapping[str, Repository]

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that it lies in, with what the engine must not import."""
        folders = [each.path for each in self.repositories.values() if isinstance(each, Folder)]
        return folders[0] if folders else None

    def read(self, shard: str, start: int, length: int) -> bytes:
        """Read a part of a shard."""
        return self.repositories[shard].read(shard, start, length)

    def read_projections(self) -> tuple[StoredProjection, ...]:
        """Read the weight and the bias of each patch embedding, by name."""
        return tuple(
            StoredProjection(weight, self._read(bias_name(weight.name)))
            for name in sorted(self._names())
            if (weight := self._read(name))
        )

    def _names(self) -> Iterator[str]:
        for header in self.headers.values():
            for name in header.tensors:
                if is_patch_embedding(name) or is_fused_patch_embedding(name):
                    yield name

    def _read(self, name: str) -> StoredTensor | None:
        for shard, header in self.headers.items():
            if name not in header.tensors:
                continue
            info, (start, end) = header.tensors[name], header.byte_range(name)
            content = self.read(shard, start, end - start)
            if len(content) != end - start:
                raise SourceChangedError(f"{shard}: cut off inside tensor {name!r}")
            return StoredTensor(name, info.dtype, info.shape, content)
        return None


def find_input(subject: Subject) -> EngineInput:
    """Return what an engine loads of a subject: also of one with a patch embedding that is wrong.

    Raises `SkippedError` where the files are not sound otherwise, or the layout is conv3d, and what
    opening the source of an overlay raises.
    """
    if subject.checkpoint is not None:
        checkpoint = need_linear(subject)
        config, headers = checkpoint.config, checkpoint.headers
    else:
        try:
            config, headers = read_config_and_headers(
                subject.repository, is_overlay=subject.is_overlay, subfolder=subject.subfolder
            )
        except FINDINGS:
            raise SkippedError("the files are not sound") from None
    repositories = dict.fromkeys(headers, subject.repository)
    if subject.is_overlay:
        source = _open_source(subject)
        headers = {**source.headers, **headers}
        repositories = dict.fromkeys(source.headers, source.repository) | repositories
    return EngineInput(config, headers, repositories)


def _open_source(subject: Subject) -> Checkpoint:
    if subject.source is not None:
        return subject.source
    located = locate_source(RECORDED, subject.manifest)
    return open_checkpoint(located, subfolder=subject.subfolder)
