"""Download files of the Hub in ranges, across dropped connections, and check their hash.

Files are downloaded here, not by `hf_hub_download`: that one starts anew in every process and
checks no hash. All else of the Hub (authentication, redirects, retries, the cache) is the client's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff

from conv2linear.errors import HubError
from conv2linear.hub.client import TIMEOUT_S, request_headers
from conv2linear.hub.remote import RemoteFile, read_content_id

_RETRIES = 5  # of a dropped connection that brought nothing new


@dataclass(frozen=True)
class Extent:
    """Bytes of a file from `start` on."""

    start: int
    content: bytes

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.start + len(self.content)


@dataclass(frozen=True)
class Download:
    """A file of the Hub and the URL that serves it at one commit."""

    file: RemoteFile
    url: str

    def read(self, start: int, end: int, write: Callable[[bytes], object]) -> None:
        """Pass all bytes from `start` up to `end` to `write`, whatever connections drop.

        Raises what the client raises, and `HubError` where nothing more arrives.
        """
        failures = 0
        while start < end:
            error = None
            try:
                for chunk in _stream(self.url, start, end):
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
                    f"{self.file.name}: the Hub sends nothing from byte {start} on, "
                    f"expected {end} bytes",
                    hint="is there something between here and the Hub that answers in its place?",
                )
            if start < end:
                time.sleep(min(failures, 1))

    def complete(
        self,
        partial: Path,
        *,
        already_read: Sequence[Extent] = (),
        on_bytes: Callable[[int], None],
    ) -> None:
        """Download into `partial` what is not in it yet.

        `already_read` holds parts of the file that need not be asked for again.
        """
        if partial.exists() and partial.stat().st_size > self.file.size_bytes:
            partial.unlink()
        with partial.open("ab", buffering=0) as file:

            def write(chunk: bytes) -> None:
                file.write(chunk)
                on_bytes(len(chunk))

            position = file.tell()
            on_bytes(position)
            for extent in sorted(already_read, key=lambda extent: extent.start):
                if extent.start >= position:
                    self.read(position, extent.start, write)
                    write(extent.content)
                    position = extent.end
            self.read(position, self.file.size_bytes, write)

    def check(self, path: Path) -> None:
        """Raise `HubError`, and remove `path`, if it does not hold what the Hub lists."""
        found = read_content_id(path, id_kind=self.file.id_kind)
        if found != self.file.content_id:
            path.unlink()
            raise HubError(
                f"{self.file.name}: downloaded content has hash {found}, "
                f"the Hub lists {self.file.content_id}",
                hint="the download was damaged on its way: run again",
            )


def _stream(url: str, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` up to `end` as they arrive, in one request.

    Waits and tries again where the Hub answers that it is busy. A server that sends more than
    it was asked for, as one that ignores ranges does, is cut short.
    """
    headers = request_headers()
    headers |= {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
    # Errors of the connection are for the caller, which knows what has arrived.
    with http_stream_backoff(
        "GET", url, headers=headers, timeout=TIMEOUT_S, retry_on_exceptions=()
    ) as response:
        hf_raise_for_status(response)
        position = start if response.status_code == 206 else 0
        for chunk in response.iter_bytes():
            wanted = chunk[max(start - position, 0) : end - position]
            position += len(chunk)
            if wanted:
                yield wanted
            if position >= end:
                return
