"""A checkpoint on the Hugging Face Hub, read in pieces and downloaded only where it must be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, hf_hub_url, snapshot_download

from conv2linear.errors import HubError
from conv2linear.files.clone import clone_file, open_regular
from conv2linear.files.disk_errors import read_errors
from conv2linear.files.sync import sync_file
from conv2linear.hub.cache import CachedFiles
from conv2linear.hub.download import Download, Extent
from conv2linear.hub.errors import check_repo_id, hub_errors
from conv2linear.hub.info import is_commit_sha, read_info
from conv2linear.hub.listing import list_files
from conv2linear.hub.remote import IdKind, RemoteFile
from conv2linear.hub.snapshot import Snapshot
from conv2linear.hub.suggest import suggest_repository
from conv2linear.hub.xet_reader import XetReader
from conv2linear.sources.address import hub_in_use
from conv2linear.sources.base import (
    FileInfo,
    Origin,
    file_fingerprint,
    is_omitted,
    partial_download_name,
)


@dataclass(frozen=True)
class ReadLimits:
    """When a cached file is hashed to be read, and how much of what the Hub sent is kept.

    Attributes:
        hashed_at_once_bytes: a file of at most this size is hashed before anything of it is read.
            Hashing a larger one for its header alone takes longer than asking the Hub for that.
        asked_bytes: once the Hub was asked for more than this of a larger file, it is hashed too.
        kept_bytes: how much of what the Hub sent is kept in memory, so that a download does not ask
            for headers and patch embeddings again. What does not fit is not kept.
    """

    hashed_at_once_bytes: int = 64_000_000
    asked_bytes: int = 32_000_000
    kept_bytes: int = 32_000_000


READ_LIMITS = ReadLimits()


def open_repository(repo_id: str, *, revision: str | None = None) -> HubRepository | Snapshot:
    """Open a model repository at a branch, tag or commit, resolved to a commit sha.

    Offline (`HF_HUB_OFFLINE`) it is the snapshot in the cache. Raises `SourceNotFoundError` where
    there is no such repository or revision, or no access, and `HubError` where the Hub fails.
    """
    check_repo_id(repo_id)
    revision = revision or constants.DEFAULT_REVISION
    with suggest_repository(repo_id), hub_errors(repo_id, revision):
        if constants.HF_HUB_OFFLINE:
            path = _find_snapshot(repo_id, revision)
            return Snapshot(path, label=repo_id, origin=Origin(repo_id, path.name, hub_in_use()))
        return HubRepository(repo_id, revision)


def _find_snapshot(repo_id: str, revision: str) -> Path:
    """Return the folder of a revision in the cache, which is named by its commit.

    A file there names the commit. Raises `HubError` where it names something else.
    """
    try:
        path = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
    except UnicodeDecodeError:
        path = Path()
    if not is_commit_sha(path.name) or ".." in path.parts:
        raise HubError(
            f"{repo_id}: the cache names no commit for {revision!r}",
            hint="unset HF_HUB_OFFLINE to ask the Hub",
        )
    return path


class HubRepository:
    """The files of a model repository at one commit.

    A file in the client's cache is used only if its content is what the Hub lists.
    """

    def __init__(self, repo_id: str, revision: str, *, limits: ReadLimits = READ_LIMITS) -> None:
        sha = read_info(repo_id, revision=revision).commit_sha
        self.label = repo_id
        self.origin: Origin = Origin(repo_id, sha, hub_in_use())
        listed = list_files(repo_id, sha)
        self.omitted = tuple(sorted(name for name in listed if is_omitted(name)))
        self._remote = {name: file for name, file in listed.items() if not is_omitted(name)}
        self._cached = CachedFiles(repo_id, sha, self._remote)
        self.files: Mapping[str, FileInfo] = {
            name: self._file_info(file) for name, file in self._remote.items()
        }
        self._limits, self._reads = limits, _Reads(limits.kept_bytes)
        self._xet = XetReader(repo_id, sha)

    @property
    def warnings(self) -> Sequence[str]:
        """What was found wrong with the cache and with Xet storage so far."""
        problem = self._xet.problem
        said = (f"downloaded over HTTP, as Xet storage does not give the files: {problem}",)
        return (*self._cached.warnings, *(said if problem else ()))

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, by range request where it is not cached."""
        path = self._path_to_read(name)
        if path is not None:
            with open_regular(path) as file, read_errors(path):
                file.seek(start)
                return file.read(length)
        content = bytearray()
        with hub_errors(self.label, self.origin.commit_sha):
            self._download(name).read(start, start + length, content.extend)
        self._reads.add(name, Extent(start, bytes(content)))
        return bytes(content)

    def fetch(
        self, name: str, target: Path, *, scratch: Path, on_bytes: Callable[[int], None]
    ) -> None:
        """Write a file to `target`: a clone of the cached one, or downloaded by way of `scratch`.

        A download that was interrupted, in this run or an earlier one, goes on where it ended.
        Raises `HubError` where the content is not what the Hub lists.
        """
        info = self.files[name]
        cached = self.local_path(name, on_bytes=lambda _: on_bytes(0))
        if cached is not None:
            clone_file(cached, target, on_bytes=on_bytes)
            return
        partial = scratch / partial_download_name(info)
        download = self._download(name)
        with hub_errors(self.label, self.origin.commit_sha):
            download.complete(partial, already_read=self._reads.kept(name), on_bytes=on_bytes)
        sync_file(partial)
        partial.rename(target)

    def local_path(self, name: str, *, on_bytes: Callable[[int], None]) -> Path | None:
        """Return where a file lies in the cache, None where it does not or is damaged there."""
        path = self.files[name].path
        if path is None or not self._cached.prove(name, path, on_bytes=on_bytes):
            return None
        return path

    def _path_to_read(self, name: str) -> Path | None:
        """Return where a file lies in the cache, if it is verified or worth the time to verify."""
        is_small = self.files[name].size_bytes <= self._limits.hashed_at_once_bytes
        if is_small or self._reads.bytes_of(name) > self._limits.asked_bytes:
            return self.local_path(name, on_bytes=_ignore)
        return self.files[name].path if self._cached.is_proven(name) else None

    def _download(self, name: str) -> Download:
        url = hf_hub_url(self.label, name, revision=self.origin.commit_sha)
        return Download(self._remote[name], url, self._xet)

    def _file_info(self, file: RemoteFile) -> FileInfo:
        name, size = file.name, file.size_bytes
        sha256 = file.content_id if file.id_kind is IdKind.SHA256 else None
        path = self._cached.find(name)
        if path is not None:
            return FileInfo(
                name,
                size,
                file_fingerprint(path),
                sha256=sha256,
                path=path,
                content_id=file.content_id,
            )
        return FileInfo(name, size, file.content_id, sha256=sha256, content_id=file.content_id)


class _Reads:
    """What was read of the Hub: how much of each file, and the bytes as long as there is room."""

    def __init__(self, kept_bytes: int) -> None:
        self._lock = threading.Lock()
        self._bytes: dict[str, int] = {}
        self._kept: dict[str, list[Extent]] = {}
        self._free_bytes = kept_bytes

    def add(self, name: str, extent: Extent) -> None:
        """Note a read; keep its bytes while there is room."""
        size = len(extent.content)
        with self._lock:
            self._bytes[name] = self._bytes.get(name, 0) + size
            if size <= self._free_bytes:
                self._free_bytes -= size
                self._kept.setdefault(name, []).append(extent)

    def bytes_of(self, name: str) -> int:
        """Return how many bytes of a file were read."""
        return self._bytes.get(name, 0)

    def kept(self, name: str) -> Sequence[Extent]:
        """Return the parts of a file that are kept."""
        with self._lock:
            return tuple(self._kept.get(name, ()))


def _ignore(count: int) -> None:
    """Count nothing."""
