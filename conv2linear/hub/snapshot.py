"""A checkpoint in the cache of the Hub's client, read while the Hub is not asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from conv2linear.errors import HubError
from conv2linear.hub.cache import CachedFiles
from conv2linear.hub.remote import IdKind, RemoteFile, git_content_id
from conv2linear.sources.base import FileInfo, Origin
from conv2linear.sources.folder import Folder
from conv2linear.text import plural

_CONTENT_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEADER_START = 8  # a shard is not hashed to see its header
_HASHED_AT_ONCE_BYTES = 64_000_000


class Snapshot(Folder):
    """The files of a commit as the client has them; none is used before its content is verified.

    A file is a link into a folder where it has the name of its content: a SHA-256, or what git
    calls it. `warnings` says for how many files that is not so.
    """

    def __init__(self, path: Path, *, label: str, origin: Origin) -> None:
        super().__init__(path, label=label, origin=origin)
        remote = {
            name: RemoteFile(name, info.size_bytes, content_id, can_copy=False)
            for name, info in self.files.items()
            if (content_id := _read_content_id(path / name))
        }
        self._cached = CachedFiles(label, origin.commit_sha, remote)
        self._remote = remote
        self.files = {name: _with_hash(info, remote) for name, info in self.files.items()}

    @property
    def warnings(self) -> Sequence[str]:
        """What cannot be checked, and what was found wrong so far."""
        unknown = len(self.files) - len(self._remote)
        said = (
            f"{plural(unknown, 'file')} in the Hub's cache cannot be checked offline: "
            "nothing says what they should be",
        )
        return (*(said if unknown else ()), *self._cached.warnings)

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, fewer only at its end."""
        if start > _HEADER_START or self.files[name].size_bytes <= _HASHED_AT_ONCE_BYTES:
            self.local_path(name, on_bytes=lambda _: None)
        return super().read(name, start, length)

    def fetch(
        self, name: str, target: Path, *, scratch: Path, on_bytes: Callable[[int], None]
    ) -> None:
        """Write a copy of a file to the new file `target` and sync it."""
        self.local_path(name, on_bytes=lambda _: on_bytes(0))
        super().fetch(name, target, scratch=scratch, on_bytes=on_bytes)

    def local_path(self, name: str, *, on_bytes: Callable[[int], None]) -> Path:
        """Return where a file lies. Raises `HubError` where it is damaged."""
        path = self.path / name
        if name in self._remote and not self._cached.prove(name, path, on_bytes=on_bytes):
            raise HubError(
                f"{name} in the Hub's cache is damaged: {path.resolve()} is not "
                f"{self._remote[name].content_id}",
                hint="remove it, unset HF_HUB_OFFLINE and run again: it is downloaded then",
            )
        return path


def _read_content_id(path: Path) -> str | None:
    """Return the content id by which the cache names a file, None where it does not."""
    if not path.is_symlink():
        return None
    # Behind this link may be another one, whose name is of another kind.
    name = path.readlink().name
    if not _CONTENT_NAME.fullmatch(name):
        return None
    return name if len(name) == 64 else git_content_id(name)


def _with_hash(info: FileInfo, remote: dict[str, RemoteFile]) -> FileInfo:
    file = remote.get(info.name)
    is_large = file is not None and file.id_kind is IdKind.SHA256
    return replace(info, sha256=file.content_id) if file and is_large else info
