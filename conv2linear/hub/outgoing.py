"""The files of this machine that can be sent to the Hub."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from conv2linear.errors import CheckFailedError
from conv2linear.files.disk_errors import read_errors, write_errors
from conv2linear.hub.commit import LocalFile
from conv2linear.hub.remote import RemoteFile, id_kind_of, read_content_id
from conv2linear.hub.repository import open_repository
from conv2linear.parallel import default_workers, map_parallel
from conv2linear.sources.base import Origin
from conv2linear.sources.folder import Folder


@dataclass(frozen=True)
class Outgoing:
    """A folder, and an empty folder `scratch` for files that are sent in place of its own.

    Raises `SourceUnreadableError` where a file cannot be read, and `OutputError` where `scratch`
    cannot be written.
    """

    folder: Folder
    scratch: Path

    def path(self, name: str) -> Path:
        """Return where a file that can be sent lies."""
        path = self.scratch / name
        return path if path.exists() else self.folder.path / name

    def size_bytes(self, name: str) -> int:
        """Return the size of a file that can be sent."""
        path = self.path(name)
        with read_errors(path):
            return path.stat().st_size

    def replace(self, name: str, text: str) -> None:
        """Send a text in place of what the folder has under this name."""
        with write_errors(self.scratch):
            (self.scratch / name).write_text(text, encoding="utf-8")

    def fetch(
        self, names: Iterable[str], origin: Origin, *, on_bytes: Callable[[int], None]
    ) -> None:
        """Download files that the folder lacks from a commit on the Hub."""
        source = open_repository(origin.repo_id, revision=origin.commit_sha)
        with write_errors(self.scratch):
            for name in names:
                path = self.scratch / name
                path.parent.mkdir(parents=True, exist_ok=True)
                source.fetch(name, path, scratch=self.scratch, on_bytes=on_bytes)

    def same_as(
        self,
        remote: Mapping[str, RemoteFile],
        names: Collection[str],
        *,
        on_bytes: Callable[[int], None],
    ) -> frozenset[str]:
        """Hash the files of these names, and return which are the same on the Hub."""

        def is_same(name: str, on_bytes: Callable[[int], None]) -> bool:
            path, file = self.path(name), remote[name]
            with read_errors(path):
                found = read_content_id(path, id_kind=file.id_kind, on_bytes=on_bytes)
            return found == file.content_id

        ordered = sorted(names)
        same = map_parallel(
            is_same, ordered, workers=default_workers(), on_bytes=on_bytes, finish_earlier=True
        )
        return frozenset(compress(ordered, same))

    def open(
        self, name: str, *, expected: str | None, on_bytes: Callable[[int], None]
    ) -> LocalFile:
        """Hash a file for a commit; `expected` is the content id that it must have, if any.

        Raises `CheckFailedError` where it has another one.
        """
        path = self.path(name)
        with read_errors(path):
            file = LocalFile(name, path)
            file.hash(on_bytes=on_bytes)
            if expected is not None and file.content_id(id_kind_of(expected)) != expected:
                raise CheckFailedError(
                    f"{name} is not what was converted: expected content {expected}",
                    hint="it has changed since: convert again",
                )
        return file
