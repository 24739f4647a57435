"""Download files of the Hub, over Xet or HTTP, across dropped connections, and check their hash.

Files are downloaded here, not by `hf_hub_download`: that one starts anew in every process and
checks no hash.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub.errors import HfHubHTTPError, HTTPError

from conv2linear.errors import HubError
from conv2linear.files.sync import EarlyWriteback
from conv2linear.hub.answers import ODD_ANSWER_HINT, open_stream
from conv2linear.hub.remote import ContentDigest, RemoteFile
from conv2linear.hub.xet_reader import XetReader

if TYPE_CHECKING:
    from huggingface_hub.errors import Response

_RETRIES = 5  # of a dropped connection that brought hardly anything
_PROGRESS_BYTES = 1 << 16  # a connection that brings less on its own has failed
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


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
    """A file of the Hub, the URL that serves it at one commit, and what reads it over Xet."""

    file: RemoteFile
    url: str
    xet: XetReader | None = None

    def read(self, start: int, end: int, write: Callable[[bytes], object]) -> None:
        """Pass all bytes from `start` up to `end` to `write`, whatever connections drop.

        Raises what the client raises, and `HubError` where nothing more arrives.
        """
        failures = 0
        while start < end:
            error, began = None, start
            try:
                for chunk in self._stream(start, end):
                    write(chunk)
                    start += len(chunk)
                    if start - began >= _PROGRESS_BYTES:
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
                    hint=ODD_ANSWER_HINT,
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
        """Download into `partial` what is not in it yet, and hash all of it meanwhile.

        `already_read` holds parts of the file that need not be asked for again. `on_bytes` may be
        called from another thread, and with 0 while nothing arrives; where it raises, this ends.
        Raises `HubError`, and removes `partial`, where the content is not what the Hub lists.
        """
        if partial.exists() and partial.stat().st_size > self.file.size_bytes:
            partial.unlink()
        digest = ContentDigest(self.file.id_kind, self.file.size_bytes)
        with FileIO(partial, "a") as file:
            writeback = EarlyWriteback(file)

            def write(chunk: bytes) -> None:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
                writeback.advance(len(chunk))
                digest.update(chunk)
                on_bytes(len(chunk))

            position = file.tell()
            digest.update_from(partial, on_bytes=lambda _: on_bytes(0))
            on_bytes(position)
            for extent in sorted(already_read, key=lambda extent: extent.start):
                if extent.start >= position:
                    self._fetch(position, extent.start, write, on_bytes)
                    write(extent.content)
                    position = extent.end
            self._fetch(position, self.file.size_bytes, write, on_bytes)
        self._check(partial, digest.content_id)

    def _fetch(
        self,
        start: int,
        end: int,
        write: Callable[[bytes], object],
        on_bytes: Callable[[int], None],
    ) -> None:
        if self.xet is not None:
            start = self.xet.copy(self.file, start, end, write, on_wait=lambda: on_bytes(0))
        self.read(start, end, write)

    def _check(self, path: Path, found: str) -> None:
        if found != self.file.content_id:
            path.unlink()
            raise HubError(
                f"{self.file.name}: downloaded content has hash {found}, "
                f"the Hub lists {self.file.content_id}",
                hint="the download was damaged on its way: run again",
            )

    def _stream(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `end` as they arrive, in one request.

        A server that sends more than it was asked for, as one that ignores ranges does, is cut
        short. Raises what the client raises, and `HubError` for other bytes than these.
        """
        # Errors of the connection are for the caller, which knows what has arrived.
        with open_stream(self.url, {"Range": f"bytes={start}-{end - 1}"}) as response:
            position = self._find_start(response, start)
            for chunk in response.iter_bytes():
                wanted = chunk[max(start - position, 0) : end - position]
                position += len(chunk)
                if wanted:
                    yield wanted
                if position >= end:
                    return

    def _find_start(self, response: Response, start: int) -> int:
        """Return which byte of the file an answer begins with."""
        size, headers = self.file.size_bytes, response.headers
        if response.status_code == 206:
            match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            if match and int(match[1]) == start and match[3] in ("*", str(size)):
                return start
        elif response.status_code == 200:
            is_encoded = headers.get("content-encoding", "identity") != "identity"
            length = headers.get("content-length")
            if is_encoded or length is None or length == str(size):
                return 0
        raise HubError(
            f"{self.file.name}: the Hub sends something else than the file of {size} bytes "
            "that it lists",
            hint=ODD_ANSWER_HINT,
        )
