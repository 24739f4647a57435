"""A checkpoint on the Hugging Face Hub, read in pieces and downloaded only where it must be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub import try_to_load_from_cache as find_in_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff, tqdm

from conv2linear.checkpoint import LEFT_OUT, FileInfo, Folder, Origin, file_fingerprint, is_inside
from conv2linear.cloning import clone_file, sync_file
from conv2linear.errors import BadCheckpointError, Conv2LinearError, HubError, SourceNotFoundError

# The HTTP library's base error; its name changes between versions of huggingface_hub.
_TransportError: type[Exception] = HfHubHTTPError.__bases__[0]
_LOGIN_HINT = "log in with `hf auth login`, or set HF_TOKEN"


def open_repository(repo_id: str, *, revision: str | None = None) -> HubRepository | Folder:
    """Open a model repository at a branch, tag or commit, resolved to a commit sha.

    Offline (`HF_HUB_OFFLINE`) it is the snapshot in the cache. Raises `SourceNotFoundError` where
    there is no such repository or revision, or no access, and `HubError` where the Hub fails.
    """
    revision = revision or constants.DEFAULT_REVISION
    with hub_errors(repo_id, revision):
        if constants.HF_HUB_OFFLINE:
            snapshot = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
            return Folder(snapshot, label=repo_id, origin=Origin(repo_id, snapshot.name))
        return HubRepository(repo_id, revision)


class HubRepository:
    """The files of a model repository at one commit."""

    def __init__(self, repo_id: str, revision: str) -> None:
        info = HfApi().model_info(repo_id, revision=revision, files_metadata=True)
        if info.sha is None:
            raise HubError(f"{repo_id}: the Hub names no commit for {revision!r}")
        self.label = repo_id
        self.origin: Origin = Origin(repo_id, info.sha)
        infos = (self._file_info(sibling) for sibling in info.siblings or ())
        self.files: Mapping[str, FileInfo] = {
            info.name: info for info in infos if info.name.split("/")[0] not in LEFT_OUT
        }

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, by range request where it is not cached."""
        path = self.files[name].path
        if path is not None:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(length)
        if length == 0:
            return b""
        with hub_errors(self.label, self.origin.commit_sha):
            return self._read_range(name, start, length)

    def fetch(self, name: str, target: Path, *, on_bytes: Callable[[int], None]) -> None:
        """Write a file to `target`: a clone of the cached one, or downloaded straight to its place.

        An interrupted download goes on where it ended, from what it left in `.cache` below the
        folder of the output.
        """
        path = self.files[name].path
        if path is not None:
            clone_file(path, target, on_bytes=on_bytes)
            return
        root = target.parents[name.count("/")]
        with hub_errors(self.label, self.origin.commit_sha):
            hf_hub_download(
                self.label,
                name,
                revision=self.origin.commit_sha,
                local_dir=root,
                tqdm_class=_bar_class(on_bytes),
            )
        sync_file(target)

    def _read_range(self, name: str, start: int, length: int) -> bytes:
        url = hf_hub_url(self.label, name, revision=self.origin.commit_sha)
        headers = build_hf_headers() | {
            "Range": f"bytes={start}-{start + length - 1}",
            "Accept-Encoding": "identity",
        }
        content = bytearray()
        with http_stream_backoff("GET", url, headers=headers) as response:
            hf_raise_for_status(response)
            skip = 0 if response.status_code == 206 else start  # some servers send the whole file
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) >= skip + length:
                    break
        return bytes(content[skip : skip + length])

    def _file_info(self, sibling: Any) -> FileInfo:
        name, size = sibling.rfilename, sibling.size
        if not is_inside(name) or type(size) is not int:
            raise BadCheckpointError(f"{self.label}: the Hub lists {name!r} with size {size!r}")
        sha256 = sibling.lfs.sha256 if sibling.lfs else None
        cached = find_in_cache(self.label, name, revision=self.origin.commit_sha)
        if isinstance(cached, str) and Path(cached).stat().st_size == size:
            path = Path(cached).resolve()
            return FileInfo(name, size, file_fingerprint(path), sha256=sha256, path=path)
        return FileInfo(name, size, f"hub:{sha256 or sibling.blob_id}", sha256=sha256)


@contextlib.contextmanager
def hub_errors(repo_id: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line and a hint that a Hub user expects."""
    try:
        yield
    except (HfHubHTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise _as_hub_error(error, repo_id, revision) from error
    except HFValidationError as error:
        message = str(error).splitlines()[0]
        raise SourceNotFoundError(f"{repo_id}: not a repository id: {message}") from error
    except _TransportError as error:
        raise _unreachable(error) from error


def _as_hub_error(error: Exception, repo_id: str, revision: str) -> Conv2LinearError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return SourceNotFoundError(
            f"{repo_id} is gated and this account has no access",
            hint=f"accept its licence at {constants.ENDPOINT}/{repo_id}, then {_LOGIN_HINT}",
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceNotFoundError(f"{repo_id} has no revision {revision!r}")
    if constants.HF_HUB_OFFLINE:
        return SourceNotFoundError(
            f"{repo_id} at {revision!r} is not in the cache, and HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE to ask the Hub",
        )
    if status == 401 and "credentials" in str(error).lower():
        return SourceNotFoundError(
            f"{repo_id}: the Hub does not accept the token", hint=_LOGIN_HINT
        )
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return SourceNotFoundError(
            f"no repository {repo_id} on the Hub, or no access to it",
            hint=f"check the name; if it is private, {_LOGIN_HINT}",
        )
    if isinstance(error, EntryNotFoundError):
        return HubError(f"{repo_id}: the Hub does not have a file that it listed: {error}")
    if status is None:
        return _unreachable(error)
    hint = "wait a little and run again: what is downloaded so far is used again"
    return HubError(f"{repo_id}: the Hub answered with status {status}", hint=hint)


def _unreachable(error: Exception) -> HubError:
    cause = str(error.__cause__ or error).splitlines()[0]
    return HubError(
        f"{constants.ENDPOINT} cannot be reached: {cause}",
        hint="check the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is in the cache",
    )


def _bar_class(on_bytes: Callable[[int], None]) -> Any:
    """Make a progress bar for huggingface_hub that shows nothing and tells `on_bytes`."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            on_bytes(int(kwargs.get("initial") or 0))
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            on_bytes(int(n or 0))
            return None

    return Bar
