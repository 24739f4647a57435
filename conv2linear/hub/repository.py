"""A checkpoint on the Hugging Face Hub, read in pieces and downloaded only where it must be.

Files are downloaded here, not by `hf_hub_download`: that one starts anew in every process and
checks no hash. All else of the Hub (authentication, redirects, retries, the cache) is the client's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub import try_to_load_from_cache as find_in_cache
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
    logging,
)

from conv2linear.errors import BadCheckpointError, HubError
from conv2linear.files.clone import clone_file
from conv2linear.files.hash import hash_file, hash_git_blob
from conv2linear.files.rename import sync_file
from conv2linear.hub.errors import hub_errors
from conv2linear.sources.base import OMITTED_FOLDERS, FileInfo, Origin, file_fingerprint, is_inside
from conv2linear.sources.folder import Folder
from conv2linear.version import __version__

_TIMEOUT_S = 10.0  # the client has none of its own for most calls
_RETRIES = 5  # of a dropped connection that brought nothing new


def open_repository(repo_id: str, *, revision: str | None = None) -> HubRepository | Folder:
    """Open a model repository at a branch, tag or commit, resolved to a commit sha.

    Offline (`HF_HUB_OFFLINE`) it is the snapshot in the cache. Raises `SourceNotFoundError` where
    there is no such repository or revision, or no access, and `HubError` where the Hub fails.
    """
    logging.set_verbosity_error()  # its retries are no news for a user
    revision = revision or constants.DEFAULT_REVISION
    with hub_errors(repo_id, revision):
        if constants.HF_HUB_OFFLINE:
            snapshot = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
            return Folder(snapshot, label=repo_id, origin=Origin(repo_id, snapshot.name))
        return HubRepository(repo_id, revision)


class HubRepository:
    """The files of a model repository at one commit."""

    def __init__(self, repo_id: str, revision: str) -> None:
        api = HfApi(library_name="conv2linear", library_version=__version__)
        sha = api.model_info(repo_id, revision=revision, timeout=_TIMEOUT_S).sha
        if sha is None:
            raise HubError(f"{repo_id}: the Hub names no commit for {revision!r}")
        self.label = repo_id
        # Headers and patch embeddings that were read: a download does not fetch them again.
        self._held: dict[str, list[tuple[int, bytes]]] = {}
        self.origin: Origin = Origin(repo_id, sha)
        entries = api.list_repo_tree(repo_id, revision=sha, recursive=True)
        self.files: Mapping[str, FileInfo] = {
            entry.path: self._file_info(entry)
            for entry in entries
            if isinstance(entry, RepoFile) and entry.path.split("/")[0] not in OMITTED_FOLDERS
        }

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, by range request where it is not cached."""
        path = self.files[name].path
        if path is not None:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(length)
        content = bytearray()
        with hub_errors(self.label, self.origin.commit_sha):
            self._read_on(name, start, start + length, content.extend)
        self._held.setdefault(name, []).append((start, bytes(content)))
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
        with hub_errors(self.label, self.origin.commit_sha):
            self._download(info, partial, on_bytes)
        found = hash_file(partial) if info.sha256 else "git:" + hash_git_blob(partial)
        if found != (info.sha256 or info.fingerprint):
            partial.unlink()
            raise HubError(
                f"{name}: downloaded content has hash {found}, the Hub lists {info.fingerprint}",
                hint="the download was damaged on its way: run again",
            )
        sync_file(partial)
        partial.rename(target)

    def _download(self, info: FileInfo, partial: Path, on_bytes: Callable[[int], None]) -> None:
        if partial.exists() and partial.stat().st_size > info.size_bytes:
            partial.unlink()
        with partial.open("ab", buffering=0) as file:

            def write(chunk: bytes) -> None:
                file.write(chunk)
                on_bytes(len(chunk))

            at = file.tell()
            on_bytes(at)
            for start, content in sorted(self._held.get(info.name, ())):
                if start >= at:
                    self._read_on(info.name, at, start, write)
                    write(content)
                    at = start + len(content)
            self._read_on(info.name, at, info.size_bytes, write)

    def _read_on(self, name: str, start: int, end: int, write: Callable[[bytes], object]) -> None:
        """Pass all bytes of a file from `start` up to `end` to `write`, whatever drops between."""
        failures = 0
        while start < end:
            error = None
            try:
                for chunk in self._stream(name, start, end):
                    write(chunk)
                    start += len(chunk)
                    failures = -1
            except HfHubHTTPError:
                raise
            except HTTPError as dropped:
                error = dropped
            failures += 1
            if failures > _RETRIES:
                raise error or HubError(
                    f"{name}: the Hub sends nothing from byte {start} on, expected {end} bytes",
                    hint="is there something between here and the Hub that answers in its place?",
                )
            if start < end:
                time.sleep(min(failures, 1))

    def _stream(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of a file from `start` up to `end` as they arrive, in one request.

        Waits and tries again where the Hub answers that it is busy. A server that sends more than
        it was asked for, as one that ignores ranges does, is cut short.
        """
        url = hf_hub_url(self.label, name, revision=self.origin.commit_sha)
        headers = build_hf_headers(library_name="conv2linear", library_version=__version__)
        headers |= {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
        # Errors of the connection are for the caller: it knows what has arrived.
        with http_stream_backoff(
            "GET", url, headers=headers, timeout=_TIMEOUT_S, retry_on_exceptions=()
        ) as response:
            hf_raise_for_status(response)
            at = start if response.status_code == 206 else 0
            for chunk in response.iter_bytes():
                wanted = chunk[max(start - at, 0) : end - at]
                at += len(chunk)
                if wanted:
                    yield wanted
                if at >= end:
                    return

    def _file_info(self, entry: RepoFile) -> FileInfo:
        name, size = entry.path, entry.size
        if not is_inside(name) or type(size) is not int:
            raise BadCheckpointError(f"{self.label}: the Hub lists {name!r} with size {size!r}")
        sha256 = entry.lfs.sha256 if entry.lfs else None
        cached = find_in_cache(self.label, name, revision=self.origin.commit_sha)
        if isinstance(cached, str) and Path(cached).stat().st_size == size:
            path = Path(cached).resolve()
            return FileInfo(name, size, file_fingerprint(path), sha256=sha256, path=path)
        return FileInfo(name, size, sha256 or f"git:{entry.blob_id}", sha256=sha256)
