"""A checkpoint on the Hugging Face Hub, read in pieces and downloaded only where it must be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from huggingface_hub import constants, hf_hub_url, snapshot_download
from huggingface_hub import try_to_load_from_cache as find_in_cache

from conv2linear.errors import BadCheckpointError, HubError
from conv2linear.files.clone import clone_file, open_regular
from conv2linear.files.disk_errors import read_errors
from conv2linear.files.rename import sync_file
from conv2linear.hub.client import TIMEOUT_S, connect
from conv2linear.hub.download import Download, Extent
from conv2linear.hub.errors import check_repo_id, hub_errors
from conv2linear.hub.listing import list_files
from conv2linear.hub.remote import IdKind, RemoteFile
from conv2linear.sources.base import FileInfo, Origin, file_fingerprint, is_inside
from conv2linear.sources.folder import Folder


def open_repository(repo_id: str, *, revision: str | None = None) -> HubRepository | Folder:
    """Open a model repository at a branch, tag or commit, resolved to a commit sha.

    Offline (`HF_HUB_OFFLINE`) it is the snapshot in the cache. Raises `SourceNotFoundError` where
    there is no such repository or revision, or no access, and `HubError` where the Hub fails.
    """
    check_repo_id(repo_id)
    revision = revision or constants.DEFAULT_REVISION
    with hub_errors(repo_id, revision):
        if constants.HF_HUB_OFFLINE:
            snapshot = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
            return Folder(snapshot, label=repo_id, origin=Origin(repo_id, snapshot.name))
        return HubRepository(repo_id, revision)


class HubRepository:
    """The files of a model repository at one commit."""

    def __init__(self, repo_id: str, revision: str) -> None:
        api = connect()
        sha = api.model_info(repo_id, revision=revision, timeout=TIMEOUT_S).sha
        if sha is None:
            raise HubError(f"{repo_id}: the Hub names no commit for {revision!r}")
        self.label = repo_id
        self.origin: Origin = Origin(repo_id, sha)
        self._remote = list_files(api, repo_id, sha)
        self.files: Mapping[str, FileInfo] = {
            name: self._file_info(file) for name, file in self._remote.items()
        }
        # Headers and patch embeddings: a download does not fetch them again.
        self._already_read: dict[str, list[Extent]] = {}

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, by range request where it is not cached."""
        path = self.files[name].path
        if path is not None:
            with open_regular(path) as file, read_errors(path):
                file.seek(start)
                return file.read(length)
        content = bytearray()
        with hub_errors(self.label, self.origin.commit_sha):
            self._download(name).read(start, start + length, content.extend)
        self._already_read.setdefault(name, []).append(Extent(start, bytes(content)))
        return bytes(content)

    def fetch(
        self, name: str, target: Path, *, scratch: Path, on_bytes: Callable[[int], None]
    ) -> None:
        """Write a file to `target`: a clone of the cached one, or downloaded by way of `scratch`.

        A download that was interrupted, in this run or an earlier one, goes on where it ended.
        Raises `HubError` where the content is not what the Hub lists.
        """
        info = self.files[name]
        if info.path is not None:
            clone_file(info.path, target, on_bytes=on_bytes)
            return
        # Named by name and content: neither two files nor two versions of one may share it.
        identity = f"{name} {info.fingerprint}"
        partial = scratch / hashlib.sha256(identity.encode()).hexdigest()
        download = self._download(name)
        with hub_errors(self.label, self.origin.commit_sha):
            download.complete(
                partial, already_read=self._already_read.get(name, ()), on_bytes=on_bytes
            )
        download.check(partial)
        sync_file(partial)
        partial.rename(target)

    def _download(self, name: str) -> Download:
        url = hf_hub_url(self.label, name, revision=self.origin.commit_sha)
        return Download(self._remote[name], url)

    def _file_info(self, file: RemoteFile) -> FileInfo:
        name, size = file.name, file.size_bytes
        if not is_inside(name) or type(size) is not int:
            raise BadCheckpointError(f"{self.label}: the Hub lists {name!r} with size {size!r}")
        sha256 = file.content_id if file.id_kind is IdKind.SHA256 else None
        cached = find_in_cache(self.label, name, revision=self.origin.commit_sha)
        if isinstance(cached, str) and Path(cached).stat().st_size == size:
            path = Path(cached).resolve()
            return FileInfo(name, size, file_fingerprint(path), sha256=sha256, path=path)
        return FileInfo(name, size, file.content_id, sha256=sha256)
