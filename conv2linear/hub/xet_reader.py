"""Read large files from the Hub's Xet storage.

Every file that is there comes over HTTP too. So whatever the client raises is no error of the run:
it is kept as `problem`, and the rest of the file is asked of the Hub itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from conv2linear.errors import HubError
from conv2linear.hub.client import describe
from conv2linear.hub.remote import RemoteFile
from conv2linear.hub.xet import (
    XetAccess,
    load_client,
    open_reading_session,
    read_access,
    run_until_aborted,
)


class XetReader:
    """Reads the large files of a repository at one commit; used by several threads.

    `problem` says why Xet storage is not used any more, None as long as it is.
    """

    def __init__(self, repo_id: str, commit_sha: str) -> None:
        self.problem: str | None = None
        self._repo_id, self._commit_sha = repo_id, commit_sha
        self._lock = threading.Lock()
        client = load_client()
        self._client: Any = client if can_read(client) else None
        self._session: Any = None
        self._access: XetAccess | None = None

    def copy(
        self,
        file: RemoteFile,
        start: int,
        end: int,
        write: Callable[[bytes], object],
        *,
        on_wait: Callable[[], object],
    ) -> int:
        """Pass bytes of a file from `start` up to `end` to `write`, in another thread.

        Returns the offset of the first byte that has not come; the problem is kept. `on_wait` is
        called again and again meanwhile: where it raises, the transfer ends and that is raised.
        """
        if self._client is None or file.xet_hash is None or self.problem or start >= end:
            return start
        try:
            group = self._open_group()
        except Exception as error:
            return self._give_up(error, start)
        position = start

        def receive() -> None:
            nonlocal position
            info = self._client.XetFileInfo(file.xet_hash, file.size_bytes)
            for chunk in self._chunks(group, info, start, end):
                wanted = chunk[: end - position]
                write(wanted)
                position += len(wanted)

        run_until_aborted(receive, on_wait=on_wait, abort=group.abort)
        if position < end and not self.problem:
            # The client may keep to itself why it ends.
            where = self._access.endpoint if self._access else ""
            said = f"{where} stops after {position} of {file.size_bytes} bytes of {file.name}"
            self._give_up(HubError(said), position)
        return position

    def _chunks(self, group: Any, info: Any, start: int, end: int) -> Iterator[bytes]:
        """Yield what arrives, until the end or the first problem."""
        try:
            yield from group.download_stream(info, start=start, end=end)
        except Exception as error:
            self._give_up(error, start)

    def _open_group(self) -> Any:
        with self._lock:
            if self._session is None:
                self._session = open_reading_session(self._client)
            if self._access is None:
                self._access = read_access(self._repo_id, self._commit_sha, kind="read")
        return self._session.new_download_stream_group(**self._access.arguments())

    def _give_up(self, error: Exception, position: int) -> int:
        self.problem = self.problem or describe(error)
        return position


def can_read(client: Any) -> bool:
    """Tell whether a release of the client has what this needs."""
    return hasattr(getattr(client, "XetSession", None), "new_download_stream_group")
