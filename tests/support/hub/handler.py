"""How a Hub on loopback answers one request, whatever stores its files.

It does what the Hub does: byte ranges, large files behind a redirect to another origin (below
`/cdn/`), small ones compressed where the client accepts that, errors named in headers.
"""

from __future__ import annotations

import gzip
import http
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

from tests.support.hub.exchanges import Exchange, Fault, error_headers
from tests.support.hub.loopback import LoopbackHub

CHUNK_BYTES = 1 << 16
_RESOLVE = re.compile(
    r"(?P<cdn>/cdn)?/(?P<repo_id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)"
)


class RefusedError(Exception):
    """An answer that is an error; the Hub's own headers have its message and its code."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or http.HTTPStatus(status).phrase)
        self.status = status
        named = {} if message is None else error_headers(message, code=code)
        self.headers = {**named, **(headers or {})}


@dataclass(frozen=True)
class FileUrl:
    """The parts of a URL that leads to a file; `from_storage` is the one of the other origin."""

    repo_id: str
    revision: str
    name: str
    from_storage: bool


class Body(Protocol):
    """The content of a file while it is read."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""

    def close(self) -> None:
        """End reading."""


@dataclass(frozen=True)
class HubFile:
    """A file that was found: what its headers say, and how to read it from its start.

    The headers are in lower case and have at least `content-length`, `x-repo-commit` and `etag`,
    the SHA-256 of a large file or the id that git gives a small one.
    """

    headers: dict[str, str]
    open: Callable[[], Body]

    @property
    def size(self) -> int:
        return int(self.headers["content-length"])

    @property
    def is_large(self) -> bool:
        return len(self.headers["etag"]) == 64


class HubHandler(BaseHTTPRequestHandler):
    """Answers with the files and values that a subclass finds; `fault` is the one that hits."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave in separate writes: without this each exchange waits for a delayed ACK.
    disable_nagle_algorithm = True

    def find_file(self, url: FileUrl) -> HubFile:
        """Return the file that a URL names or raise RefusedError."""
        raise NotImplementedError

    def answer_api(self, body: bytes) -> None:
        """Answer a request of the API, or raise RefusedError."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self._exchange()

    def do_HEAD(self) -> None:
        self._exchange()

    def do_POST(self) -> None:
        self._exchange()

    def do_PUT(self) -> None:
        self._exchange()

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the exchanges are recorded instead."""

    def version_string(self) -> str:
        return "hub"

    def _exchange(self) -> None:
        hub = cast(LoopbackHub, self.server)
        self._status, self._first_byte, self._sent_bytes = 0, 0, 0
        body = self._read_body()
        path = unquote(urlsplit(self.path).path)
        self.fault = hub.begin(self.command, path) or Fault("*")
        try:
            time.sleep(self.fault.delay_s)
            self._answer(body)
        except RefusedError as refused:
            self._send_error(refused)
        finally:
            hub.end(
                Exchange(
                    self.command,
                    path,
                    self.headers.get("Range"),
                    self.headers.get("Authorization"),
                    self._status,
                    self._first_byte,
                    self._sent_bytes,
                    len(body),
                )
            )

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(content)

    def _answer(self, body: bytes) -> None:
        if self.fault.body is not None:
            self._send_planted(self.fault.body)
            return
        if self.fault.status is not None:
            raise RefusedError(self.fault.status, headers=dict(self.fault.headers))
        match = _RESOLVE.fullmatch(urlsplit(self.path).path)
        if match is None:
            self.answer_api(body)
            return
        self._send_file(
            FileUrl(
                unquote(match["repo_id"]),
                unquote(match["revision"]),
                unquote(match["name"]),
                from_storage=match["cdn"] is not None,
            )
        )

    def _send_file(self, url: FileUrl) -> None:
        """Serve a file of a repository, or send the client of a large one to the other origin."""
        file = self.find_file(url)
        if file.is_large and not url.from_storage:
            self._redirect(file)
            return
        planted = dict(self.fault.headers)
        headers = file.headers | {"etag": f'"{file.headers["etag"]}"', "accept-ranges": "bytes"}
        if not file.is_large and "gzip" in self.headers.get("Accept-Encoding", ""):
            self._send_compressed(file, headers)
            return
        asked = None if self.fault.ignore_range else self.headers.get("Range")
        span = _requested_span(asked, file.size)
        if span is not None and span[0] >= file.size:
            raise RefusedError(416, headers={"content-range": f"bytes */{file.size}"})
        start, stop = span or (0, file.size)
        if span:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{file.size}"
        head = headers | {"content-length": str(stop - start)} | planted
        self.send_head(206 if span else 200, head)
        if self.command == "GET":
            self._send_part(file.open(), start, stop)

    def _send_planted(self, body: bytes) -> None:
        length = {} if self.fault.endless else {"content-length": str(len(body))}
        self.send_head(self.fault.status or 200, {**length, **dict(self.fault.headers)})
        self.send_body(body)
        while self.fault.endless:
            self.send_body(body)
        self.close_connection = self.fault.endless

    def _redirect(self, file: HubFile) -> None:
        hub = cast(LoopbackHub, self.server)
        location = {
            "location": f"{hub.storage_endpoint}/cdn{self.path}",
            "x-linked-size": str(file.size),
            "x-linked-etag": f'"{file.headers["etag"]}"',
            "x-repo-commit": file.headers["x-repo-commit"],
            **{k: v for k, v in file.headers.items() if k in ("x-xet-hash", "link")},
        }
        self.send_head(302, location | {"content-length": "0"})

    def _send_compressed(self, file: HubFile, headers: dict[str, str]) -> None:
        # As the Hub does for text: no length, and a range is answered with the whole file.
        del headers["content-length"]
        self.send_head(200, headers | {"content-encoding": "gzip", "transfer-encoding": "chunked"})
        if self.command == "GET":
            body = file.open()
            content = gzip.compress(body.read())
            body.close()
            self.wfile.write(f"{len(content):x}\r\n".encode())
            self.send_body(content)
            self.wfile.write(b"\r\n0\r\n\r\n")

    def _send_part(self, body: Body, start: int, stop: int) -> None:
        """Send bytes [start, stop) of a body that is read from its start."""
        self._first_byte = start
        position = 0
        while position < stop and (chunk := body.read(CHUNK_BYTES)):
            if self.fault.flip_byte is not None:
                chunk = _flip_byte(chunk, self.fault.flip_byte - position)
            if position + len(chunk) > start:
                self.send_body(chunk[max(0, start - position) : stop - position])
            position += len(chunk)
            if self._sent_bytes == self.fault.cut_after_bytes:
                break
        body.close()

    def _send_error(self, refused: RefusedError) -> None:
        message = refused.headers.get("x-error-message", str(refused))
        self.send_json({"error": message}, status=refused.status, headers=refused.headers)

    def send_json(
        self, values: object, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send values as the body of an answer."""
        content = json.dumps(values).encode()
        own = {"content-type": "application/json", "content-length": str(len(content))}
        self.send_head(status, {**(headers or {}), **own})
        self.send_body(content)

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status and the headers of an answer."""
        self._status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, content: bytes) -> None:
        """Send a piece of the body, but for what a HEAD request or a fault keeps back."""
        if self.command == "HEAD":
            return
        limit = self.fault.cut_after_bytes
        if limit is not None and self._sent_bytes + len(content) >= limit:
            content = content[: limit - self._sent_bytes]
            self.close_connection = True
        self.wfile.write(content)
        self._sent_bytes += len(content)


def _flip_byte(chunk: bytes, offset: int) -> bytes:
    if not 0 <= offset < len(chunk):
        return chunk
    return chunk[:offset] + bytes([chunk[offset] ^ 1]) + chunk[offset + 1 :]


def _requested_span(header: str | None, size: int) -> tuple[int, int] | None:
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
