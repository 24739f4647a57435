"""The files of a commit in the client's cache; none is used before its content is verified."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from huggingface_hub import try_to_load_from_cache as find_in_cache

from conv2linear.errors import Conv2LinearError
from conv2linear.hub.remote import RemoteFile, read_content_id


class CachedFiles:
    """Files that may be in the cache of the client; each is hashed once, when it is first needed.

    Name and size do not show that a file is still what was downloaded. `warnings` names the files
    that are not.
    """

    def __init__(self, repo_id: str, commit_sha: str, remote: Mapping[str, RemoteFile]) -> None:
        self.warnings: list[str] = []
        self._repo_id, self._commit_sha, self._remote = repo_id, commit_sha, remote
        self._locks = {name: threading.Lock() for name in remote}
        self._is_right: dict[str, bool] = {}

    def find(self, name: str) -> Path | None:
        """Return where a file of the listed size lies in the cache; its content is not read."""
        cached = find_in_cache(self._repo_id, name, revision=self._commit_sha)
        if not isinstance(cached, str):
            return None
        try:
            path = Path(cached).resolve(strict=True)
            is_complete = path.is_file() and path.stat().st_size == self._remote[name].size_bytes
        except (OSError, RuntimeError):  # it went meanwhile, or is a circle of links
            return None
        return path if is_complete else None

    def is_proven(self, name: str) -> bool:
        """Tell whether a file was found to be what the Hub lists."""
        return self._is_right.get(name, False)

    def prove(self, name: str, path: Path, *, on_bytes: Callable[[int], None]) -> bool:
        """Hash a cached file, if that is not done yet; tell whether it is what the Hub lists.

        `on_bytes` is told each number of bytes read.
        """
        with self._locks[name]:
            if name not in self._is_right:
                self._is_right[name] = self._hash(name, path, on_bytes)
            return self._is_right[name]

    def _hash(self, name: str, path: Path, on_bytes: Callable[[int], None]) -> bool:
        file = self._remote[name]
        try:
            found = read_content_id(path, id_kind=file.id_kind, on_bytes=on_bytes)
        except (Conv2LinearError, OSError) as error:
            self.warnings.append(f"not taken from the Hub's cache: {error}")
            return False
        if found != file.content_id:
            self.warnings.append(
                f"{name} in the Hub's cache is damaged, and not used: {path} has content {found}, "
                f"the Hub lists {file.content_id}"
            )
        return found == file.content_id
