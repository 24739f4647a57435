"""A checkpoint as it lies in a folder or on the Hub: its files, headers and patch embeddings.

Everything here is read and checked before anything is decided; no tensor is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from conv2linear.cloning import clone_file, open_regular
from conv2linear.config import CONFIG_NAME, ModelConfig, parse_config
from conv2linear.errors import (
    BadCheckpointError,
    SourceChangedError,
    SourceNotFoundError,
    UnsupportedCheckpointError,
)
from conv2linear.families import (
    Geometry,
    bias_name,
    is_fused_patch_embedding,
    is_patch_embedding,
)
from conv2linear.header import LENGTH_BYTES, Header, header_length, parse_header
from conv2linear.json_text import loads_without_duplicates

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MANIFEST_NAME = "conv2linear.json"
FLOAT_DTYPES = ("BF16", "F16", "F32")
LEFT_OUT = (".git", ".cache")  # of git and of huggingface_hub: no part of the checkpoint

_MAX_TEXT_BYTES = 100_000_000
_HEADER_READERS = 8
_MAX_PATCH_EMBEDDINGS = 64

CONV3D, LINEAR, FUSED = "conv3d", "linear", "fused"


@dataclass(frozen=True)
class Origin:
    """A Hub repository at a resolved commit."""

    repo_id: str
    commit_sha: str


@dataclass(frozen=True)
class FileInfo:
    """One file of a checkpoint; `name` is its posix path below the checkpoint's root.

    `path` is where its bytes lie on this machine, or None for a file that only the Hub has.
    `fingerprint` changes when the file does; it is not a hash of the content.
    """

    name: str
    size_bytes: int
    fingerprint: str
    sha256: str | None = None
    path: Path | None = None


class Repository(Protocol):
    """Where the files of a checkpoint are: a folder, or a repository on the Hub."""

    @property
    def label(self) -> str:
        """Name of it in messages, as the user gave it."""

    @property
    def origin(self) -> Origin | None:
        """Repository and commit, where it comes from the Hub."""

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """All files by name."""

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, fewer only at its end."""

    def fetch(
        self, name: str, target: Path, *, scratch: Path, on_bytes: Callable[[int], None]
    ) -> None:
        """Write a copy of a file to the new file `target` and see it onto the disk.

        `scratch` is a folder on the same file system for what is not whole yet.
        """


class Folder:
    """A checkpoint in a folder of this machine. Links to files are followed."""

    def __init__(self, path: Path, *, label: str | None = None, origin: Origin | None = None):
        self.path = path
        self.label = label or str(path)
        self.origin = origin
        if not path.is_dir():
            raise SourceNotFoundError(f"{self.label}: not a folder")
        self.files: Mapping[str, FileInfo] = {
            info.name: info for info in sorted(_walk(path), key=lambda info: info.name)
        }

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, fewer only at its end."""
        with open_regular(self.path / name) as file:
            return os.pread(file.fileno(), length, start)

    def fetch(
        self, name: str, target: Path, *, scratch: Path, on_bytes: Callable[[int], None]
    ) -> None:
        """Write a copy of a file to the new file `target` and see it onto the disk."""
        clone_file(self.path / name, target, on_bytes=on_bytes)


def file_fingerprint(path: Path) -> str:
    """Identify the content of a file by what the file system says of it, without reading it.

    The change time stands last: no program can set it back, but a new hard link moves it too.
    """
    s = path.stat()
    return f"{s.st_dev}:{s.st_ino}:{s.st_size}:{s.st_mtime_ns}:{s.st_ctime_ns}"


def check_unchanged(info: FileInfo) -> None:
    """Raise `SourceChangedError` if a file is not what it was when the checkpoint was opened."""
    if info.path is None:
        return
    now = file_fingerprint(info.path) if info.path.exists() else ""
    if now.rpartition(":")[0] != info.fingerprint.rpartition(":")[0]:
        raise SourceChangedError(
            f"{info.name} changed while it was read",
            hint="wait until whatever writes to the source is done, then run again",
        )


@dataclass(frozen=True)
class PatchEmbedding:
    """The weight of one patch embedding, `[O, C, T, P, P]` or `[O, K]`, and its bias `[O]`."""

    name: str
    shard: str
    dtype: str
    shape: tuple[int, ...]
    geometry: Geometry
    bias: str | None
    bias_shard: str | None

    @property
    def layout(self) -> str:
        """The layout of this weight: conv3d, linear or fused."""
        if is_fused_patch_embedding(self.name):
            return FUSED
        return CONV3D if len(self.shape) == 5 else LINEAR


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
    def layout(self) -> str:
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
    weight_map = None if is_overlay else _read_weight_map(repository)
    if is_overlay:
        shards = sorted(name for name in repository.files if name.endswith(".safetensors"))
    else:
        shards = sorted(set(weight_map.values())) if weight_map else [SINGLE_FILE]
    headers = _read_headers(repository, shards)
    if weight_map is not None:
        _check_weight_map(weight_map, headers)
    has_bias = config.family.has_bias and not is_overlay  # it may lie in another shard
    embeddings = _find_patch_embeddings(headers, geometry, has_bias=has_bias)
    return Checkpoint(repository, config, headers, embeddings)


def read_text(repository: Repository, name: str) -> str:
    """Read a small file as UTF-8. Raises `BadCheckpointError` if it is not small or not text."""
    info = repository.files[name]
    if info.size_bytes > _MAX_TEXT_BYTES:
        raise BadCheckpointError(f"{name}: {info.size_bytes} bytes is too large for a text file")
    content = repository.read(name, 0, info.size_bytes)
    check_unchanged(info)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadCheckpointError(f"{name}: not UTF-8: {error}") from None


def _walk(root: Path) -> Iterable[FileInfo]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in LEFT_OUT]
        for name in subfolders + names:
            path = Path(folder, name)
            if name in subfolders and not path.is_symlink():
                continue
            yield _file_info(path, path.relative_to(root).as_posix())


def _file_info(path: Path, name: str) -> FileInfo:
    if not name.isprintable() or not path.is_file():
        what = "a broken link" if path.is_symlink() and not path.exists() else "not a regular file"
        raise BadCheckpointError(
            f"{ascii(name) if not name.isprintable() else name}: {what}",
            hint="a checkpoint holds plain files only: remove it, or put the file in its place",
        )
    status = path.stat()
    return FileInfo(name, status.st_size, file_fingerprint(path), path=path)


def _require_text(repository: Repository, name: str) -> str:
    if name not in repository.files:
        raise BadCheckpointError(
            f"{repository.label}: no {name}",
            hint="is this the folder of a transformers checkpoint?",
        )
    return read_text(repository, name)


def _read_weight_map(repository: Repository) -> dict[str, str] | None:
    """Return tensor name -> shard name from the index, or None for a single-file checkpoint."""
    files = repository.files
    if INDEX_FILE not in files:
        if SINGLE_FILE not in files:
            raise BadCheckpointError(
                f"{repository.label}: neither {SINGLE_FILE} nor {INDEX_FILE}",
                hint=_other_weights(files),
            )
        return None
    if SINGLE_FILE in files:
        raise BadCheckpointError(
            f"{repository.label}: both {SINGLE_FILE} and {INDEX_FILE}",
            hint="it is not clear which one counts: remove the one that is left over",
        )
    try:
        index = loads_without_duplicates(read_text(repository, INDEX_FILE))
    except ValueError as error:
        raise BadCheckpointError(f"{INDEX_FILE} is not valid JSON: {error}") from None
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadCheckpointError(f"{INDEX_FILE}: weight_map is missing, empty or not an object")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise BadCheckpointError(f"{INDEX_FILE}: a shard in weight_map is not a file name")
    for shard in sorted(set(weight_map.values())):
        if not is_inside(shard):
            raise BadCheckpointError(f"{INDEX_FILE}: shard {shard!r} is not a file in this folder")
        if shard not in files:
            raise BadCheckpointError(
                f"{INDEX_FILE}: shard {shard} is missing", hint="download or copy it again"
            )
    return weight_map


def _other_weights(files: Mapping[str, FileInfo]) -> str:
    if any(name.endswith((".bin", ".pt", ".pth")) for name in files):
        return "pickled weights are never opened: save the model with safetensors first"
    return "is the download complete?"


def is_inside(name: str) -> bool:
    """Tell whether a file name from outside stays below the folder that it is relative to."""
    path = PurePosixPath(name)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and ("\\" not in name and "\0" not in name and path.as_posix() == name)
    )


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


def _check_weight_map(weight_map: Mapping[str, str], headers: Mapping[str, Header]) -> None:
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


def _find_patch_embeddings(
    headers: Mapping[str, Header], geometry: Geometry, *, has_bias: bool
) -> tuple[PatchEmbedding, ...]:
    shard_of = {name: shard for shard, header in headers.items() for name in header.tensors}
    names = sorted(n for n in shard_of if is_patch_embedding(n) or is_fused_patch_embedding(n))
    if not names:
        raise UnsupportedCheckpointError(
            "no patch_embed.proj.weight in any shard",
            hint="is this the vision-language model, or only its text part?",
        )
    if len(names) > _MAX_PATCH_EMBEDDINGS:
        raise BadCheckpointError(
            f"{len(names)} patch embeddings, at most {_MAX_PATCH_EMBEDDINGS} are plausible"
        )
    members = _members_of_modules(shard_of, names)
    embeddings = []
    for name in names:
        bias = bias_name(name) if bias_name(name) in shard_of else None
        info = headers[shard_of[name]].tensors[name]
        embedding = PatchEmbedding(
            name, shard_of[name], info.dtype, info.shape, geometry, bias, shard_of.get(bias or "")
        )
        _check_patch_embedding(embedding, members[name.removesuffix("weight")])
        _check_bias(embedding, headers, has_bias=has_bias)
        embeddings.append(embedding)
    layouts = {embedding.layout for embedding in embeddings}
    if len(layouts) > 1:
        raise BadCheckpointError(
            f"patch embeddings in several layouts: {', '.join(sorted(layouts))}"
        )
    return tuple(embeddings)


def _members_of_modules(tensors: Iterable[str], weights: Iterable[str]) -> dict[str, list[str]]:
    """Return, for each patch embedding's module (with a dot behind), all tensors below it."""
    members: dict[str, list[str]] = {name.removesuffix("weight"): [] for name in weights}
    for tensor in tensors:
        end = tensor.find("proj.")
        while end != -1:
            end += len("proj.")
            if tensor[:end] in members:
                members[tensor[:end]].append(tensor)
            end = tensor.find("proj.", end)
    return members


def _check_patch_embedding(embedding: PatchEmbedding, members: Iterable[str]) -> None:
    name, shape, geometry = embedding.name, embedding.shape, embedding.geometry
    if len(shape) == 4:
        raise UnsupportedCheckpointError(f"{name} is a Conv2d kernel {list(shape)}, expected 5-D")
    if len(shape) not in (2, 5):
        raise BadCheckpointError(f"{name} has shape {list(shape)}, expected 5-D or 2-D")
    expected = geometry.kernel_shape if len(shape) == 5 else geometry.linear_shape
    if shape != expected:
        raise BadCheckpointError(
            f"{name} has shape {list(shape)}, but {CONFIG_NAME} says {list(expected)}"
        )
    if embedding.dtype not in FLOAT_DTYPES:
        raise UnsupportedCheckpointError(
            f"{name} has dtype {embedding.dtype}, expected one of {', '.join(FLOAT_DTYPES)}"
        )
    extra = min((t for t in members if t not in (name, embedding.bias)), default=None)
    if extra:
        raise UnsupportedCheckpointError(f"the patch embedding is quantised itself: {extra}")


def _check_bias(
    embedding: PatchEmbedding, headers: Mapping[str, Header], *, has_bias: bool
) -> None:
    if embedding.bias is None or embedding.bias_shard is None:
        if has_bias:
            raise BadCheckpointError(f"{bias_name(embedding.name)} is missing")
        return
    info = headers[embedding.bias_shard].tensors[embedding.bias]
    expected = (embedding.geometry.embed_dim,)
    if info.shape != expected or info.dtype != embedding.dtype:
        raise BadCheckpointError(
            f"{embedding.bias} is {info.dtype} {list(info.shape)}, "
            f"expected {embedding.dtype} {list(expected)}"
        )
