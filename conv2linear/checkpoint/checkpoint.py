"""A checkpoint in a folder or on the Hub: its files, headers and patch embeddings.

Everything here is read and checked before anything is decided; no tensor is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig, parse_config
from conv2linear.checkpoint.header import LENGTH_BYTES, Header, header_length, parse_header
from conv2linear.checkpoint.index import (
    EXPLICIT_FILE,
    INDEX_FILE,
    SINGLE_FILE,
    ShardList,
    check_weight_map,
    list_shards,
)
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.checkpoint.other_kernels import warn_of_other_kernels
from conv2linear.checkpoint.other_kinds import (
    missing_file_error,
    refuse_mlx,
    refuse_text_model,
)
from conv2linear.checkpoint.patch_embedding import (
    Layout,
    PatchEmbedding,
    find_patch_embeddings,
    has_patch_embedding,
)
from conv2linear.checkpoint.refused_types import REFUSED_TYPES
from conv2linear.errors import (
    BadCheckpointError,
    SourceChangedError,
    UnsupportedCheckpointError,
)
from conv2linear.paths import StrPath
from conv2linear.sources.base import (
    LFS_POINTER,
    FileInfo,
    Repository,
    is_inside,
    named_in_errors,
    read_text,
    refuse_pointer,
)
from conv2linear.sources.open import open_source

_HEADER_READERS = 8


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint; `headers` has one entry for each shard, by file name.

    It lies in the folder `subfolder` of its repository, "" for the repository itself; `listed` says
    where its shards are listed. `warnings` say what is odd about its files, and stops no load.
    """

    repository: Repository
    config: ModelConfig
    headers: Mapping[str, Header]
    patch_embeddings: tuple[PatchEmbedding, ...]
    subfolder: str = ""
    listed: ShardList = field(default_factory=lambda: ShardList(()))
    warnings: tuple[str, ...] = ()

    @property
    def config_name(self) -> str:
        """The name of its config.json in the repository."""
        return join_subfolder(self.subfolder, CONFIG_NAME)

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


def read_checkpoint(
    repository: Repository, *, is_overlay: bool = False, subfolder: str = ""
) -> Checkpoint:
    """Read and check config, index and every header of a checkpoint.

    An overlay has only some of the shards and no index: what is there is read. `subfolder` is the
    folder of the repository that the checkpoint is in, as in transformers.

    Raises `BadCheckpointError` where the files break a rule or contradict each other, and
    `UnsupportedCheckpointError` where there is no patch embedding that could be linear.
    """
    with named_in_errors(repository.label):
        return _read_checkpoint(repository, parse_subfolder(subfolder), is_overlay=is_overlay)


def _read_checkpoint(repository: Repository, subfolder: str, *, is_overlay: bool) -> Checkpoint:
    prefix = join_subfolder(subfolder, "")
    config = parse_config(_read_config(repository, prefix))
    refuse_text_model(config.values, is_known=config.model_type in {*MODEL_TYPES, *REFUSED_TYPES})
    geometry = config.geometry
    listed = _list_shards(repository, prefix, config, is_overlay=is_overlay)
    headers = _read_headers(repository, list(listed.shards))
    if not is_overlay:
        listed = replace(listed, warnings=listed.warnings + check_weight_map(listed, headers))
    refuse_mlx(config.values, headers, geometry)
    has_bias = config.supported_type.has_bias and not is_overlay  # it may lie in another shard
    others = () if is_overlay else warn_of_other_kernels(repository, headers, prefix=prefix)
    try:
        embeddings = find_patch_embeddings(headers, geometry, has_bias=has_bias)
    except UnsupportedCheckpointError as error:
        is_elsewhere = others and not any(has_patch_embedding(each) for each in headers.values())
        raise type(error)(str(error), hint=others[0] if is_elsewhere else error.hint) from None
    warnings = listed.warnings + others
    listed = replace(listed, weight_map=None)  # of a large checkpoint it is large, and checked now
    return Checkpoint(repository, config, headers, embeddings, subfolder, listed, warnings)


def read_config_and_headers(
    repository: Repository, *, is_overlay: bool = False, subfolder: str = ""
) -> tuple[ModelConfig, dict[str, Header]]:
    """Read config and every header of a checkpoint, whatever its patch embedding is.

    Raises `BadCheckpointError` where they break a rule.
    """
    prefix = join_subfolder(parse_subfolder(subfolder), "")
    config = parse_config(_read_config(repository, prefix))
    listed = _list_shards(repository, prefix, config, is_overlay=is_overlay)
    return config, _read_headers(repository, list(listed.shards))


def parse_subfolder(subfolder: str) -> str:
    """Return the name of a folder in a repository without slashes around it.

    Raises `BadCheckpointError` where it leads out of the repository.
    """
    name = subfolder.strip("/")
    if name and not is_inside(name):
        raise BadCheckpointError(
            f"subfolder {subfolder!r} is not the name of a folder in a repository",
            hint="name it as it stands below the source: --subfolder model",
        )
    return name


def join_subfolder(subfolder: str, name: str) -> str:
    """Return the name that a file of a checkpoint has in its repository."""
    return f"{subfolder}/{name}" if subfolder else name


def _list_shards(
    repository: Repository, prefix: str, config: ModelConfig, *, is_overlay: bool
) -> ShardList:
    files = [name for name in repository.files if name.startswith(prefix)]
    if is_overlay:
        return ShardList(tuple(sorted(n for n in files if n.endswith(".safetensors"))))
    explicit = config.values.get(EXPLICIT_FILE)
    has_weights = prefix + SINGLE_FILE in files or prefix + INDEX_FILE in files
    if explicit is None and not has_weights:
        raise missing_file_error(repository, prefix, f"neither {SINGLE_FILE} nor {INDEX_FILE}")
    return list_shards(repository, prefix=prefix, explicit=explicit)


def _read_config(repository: Repository, prefix: str) -> str:
    name = prefix + CONFIG_NAME
    info = repository.files.get(name)
    if info is None:
        raise missing_file_error(repository, prefix, f"no {CONFIG_NAME}")
    if not info.size_bytes:
        raise BadCheckpointError(f"{name} is empty", hint="download or copy it again")
    return read_text(repository, name)


def _read_headers(repository: Repository, shards: list[str]) -> dict[str, Header]:
    """Read several headers at a time, which is waiting; parse one at a time, which is work.

    The first that is wrong ends the reading.
    """
    with ThreadPoolExecutor(max_workers=_HEADER_READERS) as pool:
        try:
            contents = pool.map(lambda shard: _read_raw_header(repository, shard), shards)
            pairs = zip(shards, contents, strict=True)
            return {shard: _parse_header(repository, shard, raw) for shard, raw in pairs}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_shard_header(repository: Repository, shard: str) -> Header:
    """Read and check the header of one shard; raises `BadHeaderError` where it is not valid."""
    return _parse_header(repository, shard, _read_raw_header(repository, shard))


def _parse_header(repository: Repository, shard: str, raw: bytes) -> Header:
    return parse_header(raw, file_bytes=repository.files[shard].size_bytes, label=shard)


def _read_raw_header(repository: Repository, shard: str) -> bytes:
    size = repository.files[shard].size_bytes
    prefix = repository.read(shard, 0, min(size, LENGTH_BYTES))
    if LFS_POINTER.startswith(prefix) and size > LENGTH_BYTES:
        refuse_pointer(repository.read(shard, 0, len(LFS_POINTER)), shard)
    length = header_length(prefix, file_bytes=size, label=shard)
    raw = repository.read(shard, LENGTH_BYTES, length)
    if len(raw) != length:
        raise SourceChangedError(f"{shard}: cut off inside the header")
    return raw


def open_checkpoint(
    source: StrPath, *, revision: str | None = None, subfolder: str = ""
) -> Checkpoint:
    """Open a checkpoint: a folder that exists, or else an id or address on the Hub.

    Raises `SourceNotFoundError`, `HubError`, `BadCheckpointError` or `UnsupportedCheckpointError`.
    """
    return read_checkpoint(open_source(source, revision=revision), subfolder=subfolder)
