"""Read large files from the Hub's Xet storage, with the client that huggingface_hub depends on.

Every file that is there comes over HTTP too. So whatever this client raises is no error of the
run: it is kept as `problem`, and the rest of the file is asked of the Hub itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants

from conv2linear.errors import HubError
from conv2linear.hub.answers import PATIENCE, Patience, get_json, odd_answer
from conv2linear.hub.client import redact, request_headers
from conv2linear.hub.remote import RemoteFile

_MAX_REASON = 300  # characters of what the client says
_POLL_S = 0.1  # how soon a run that is stopped ends
# The client's own: 2 GB of buffers, and minutes before it gives up, as it has no other way.
_LIMITS = {
    "reconstruction.min_reconstruction_fetch_size": 64_000_000,
    "reconstruction.max_reconstruction_fetch_size": 128_000_000,
    "reconstruction.min_prefetch_buffer": 64_000_000,
    "reconstruction.download_buffer_size": 128_000_000,
    "reconstruction.download_buffer_perfile_size": 64_000_000,
    "reconstruction.download_buffer_limit": 256_000_000,
    "client.connect_timeout": "10s",
    "client.read_timeout": "60s",
    "client.retry_base_delay": "500ms",
    "client.retry_max_attempts": 3,
    "client.retry_max_duration": "60s",
}
_ENVIRONMENT_PREFIX = "HF_XET_"
_FAST = "HF_XET_HIGH_PERFORMANCE"


@dataclass(frozen=True)
class XetAccess:
    """Where Xet storage is, and the token for it; `refresh_url` gives the next one."""

    endpoint: str
    token: str
    expires: int
    refresh_url: str

    def arguments(self) -> dict[str, Any]:
        """Return what the client is given to connect."""
        headers = request_headers()
        own = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        return {
            "endpoint": self.endpoint,
            "token": self.token,
            "token_expiry_unix_secs": self.expires,
            "token_refresh_url": self.refresh_url,
            "token_refresh_headers": headers,
            "custom_headers": own,  # the token of the Hub is for the Hub alone
        }


class XetReader:
    """Reads the large files of a repository at one commit; used by several threads.

    `problem` says why Xet storage is not used any more, None as long as it is.
    """

    def __init__(self, repo_id: str, commit_sha: str) -> None:
        self.problem: str | None = None
        self._repo_id, self._commit_sha = repo_id, commit_sha
        self._lock = threading.Lock()
        self._client = load_client()
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

        run_beside(receive, on_wait=on_wait, abort=group.abort)
        if position < end and not self.problem:
            self._give_up(HubError(f"{file.name} ends after {position} bytes"), position)
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
                self._session = open_session(self._client)
            if self._access is None:
                self._access = read_access(self._repo_id, self._commit_sha, kind="read")
        return self._session.new_download_stream_group(**self._access.arguments())

    def _give_up(self, error: Exception, position: int) -> int:
        reason = redact(" ".join(str(error).split())) or type(error).__name__
        self.problem = self.problem or reason[:_MAX_REASON]
        return position


def load_client() -> Any:
    """Return the module hf_xet, None where it is not to be used, missing or too old."""
    if constants.HF_HUB_DISABLE_XET:
        return None
    try:
        import hf_xet  # not installed on every machine
    except ImportError:
        return None
    session = getattr(hf_xet, "XetSession", None)
    return hf_xet if hasattr(session, "new_download_stream_group") else None


def open_session(client: Any) -> Any:
    """Return a session with our limits, but for those that the user has set."""
    names = {name.upper() for name in os.environ}
    if _FAST in names:
        return client.XetSession()
    limits = {
        key: value
        for key, value in _LIMITS.items()
        if _ENVIRONMENT_PREFIX + key.replace(".", "_").upper() not in names
    }
    try:
        return client.XetSession(client.XetConfig().with_config(limits))
    except (AttributeError, TypeError, ValueError, KeyError, RuntimeError):  # other releases
        return client.XetSession()


def read_access(
    repo_id: str, revision: str, *, kind: str, query: str = "", patience: Patience = PATIENCE
) -> XetAccess:
    """Ask the Hub for access to Xet storage, of `kind` read or write.

    Raises what the client of the Hub raises, and `HubError` for an answer that gives none.
    """
    place = f"{constants.ENDPOINT}/api/models/{repo_id}/xet-{kind}-token"
    url = f"{place}/{quote(revision, safe='')}{query}"
    values = get_json(url, place=repo_id, patience=patience).values
    found = values if isinstance(values, dict) else {}
    endpoint, token, expires = (found.get(key) for key in ("casUrl", "accessToken", "exp"))
    if not isinstance(endpoint, str) or not isinstance(token, str) or type(expires) is not int:
        raise odd_answer(repo_id, "it gives no access to Xet storage")
    return XetAccess(endpoint, token, expires, url)


def run_beside(
    work: Callable[[], None], *, on_wait: Callable[[], object], abort: Callable[[], object]
) -> None:
    """Do `work` in another thread, whose waits nothing interrupts but `abort`.

    `on_wait` is called meanwhile. Where it raises, or the user interrupts, the work is aborted.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        try:
            while not wait([future], timeout=_POLL_S).done:
                on_wait()
        except BaseException:
            abort()
            raise
        future.result()
