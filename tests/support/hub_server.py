"""A Hugging Face Hub on loopback, for tests: `olah` over local git repositories, behind a proxy.

`olah` answers the Hub's API without a network. The proxy records every exchange, misbehaves when a
`Fault` says so, and adds what the Hub does and an offline `olah` does not: byte ranges, large files
behind a redirect to another origin (below `/cdn/`), small ones compressed where the client accepts
that, the default revision, and 404 for a missing revision or file (`olah` says that the repository
is missing). Nothing here accepts an upload.
"""

from __future__ import annotations

import gzip
import hashlib
import http
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import cast
from urllib.parse import unquote, urlsplit

_CHUNK_BYTES = 1 << 16
_START_TIMEOUT_S = 60.0
_IDLE_TIMEOUT_S = 60.0
_REPO_ID = r"(?P<repo_id>[^/]+/[^/]+)"
_RESOLVE = re.compile(rf"(?P<cdn>/cdn)?/{_REPO_ID}/resolve/(?P<revision>[^/]+)/.+")
_REVISION_API = re.compile(
    rf"/api/models/{_REPO_ID}/(?:revision|tree|paths-info)/(?P<revision>[^/]+)(?:/.*)?"
)
_DEFAULT_REVISION_API = re.compile(r"/api/models/[^/]+/[^/]+")
_HOP_BY_HOP = {"connection", "date", "keep-alive", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Exchange:
    """One answered request: what was asked, and how much of a body went out."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int
    first_byte: int
    sent_bytes: int


class Log(list[Exchange]):
    """The exchanges of a recording, oldest first."""

    def of(self, path: str, method: str = "*") -> Log:
        """Return the exchanges whose path and method match these globs."""
        return Log(e for e in self if fnmatchcase(e.path, path) and fnmatchcase(e.method, method))

    def sent_bytes(self, path: str = "*") -> int:
        """Return the body bytes sent for the paths that match a glob."""
        return sum(e.sent_bytes for e in self.of(path))

    def spans(self, path: str) -> list[tuple[int, int]]:
        """Return the sorted half-open intervals of file bytes sent for a glob, as often as sent."""
        sent = [e for e in self.of(path) if e.sent_bytes]
        return sorted((e.first_byte, e.first_byte + e.sent_bytes) for e in sent)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the requests whose path and method match two globs.

    `status` (with `headers`) replaces the answer; `cut_after_bytes` closes the connection after so
    many body bytes; `flip_byte` changes the byte at that offset of the file; `ignore_range` sends
    the whole file to a request for a part of it. `times` is how many requests are hit (None: all);
    each of them counts, so a fault of a large file's body names `/cdn/` and GET.
    """

    path: str
    method: str = "*"
    times: int | None = None
    delay_s: float = 0.0
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    cut_after_bytes: int | None = None
    flip_byte: int | None = None
    ignore_range: bool = False


def gated(path: str = "*") -> Fault:
    """Return the Hub's answer to a user who may not read a gated repository."""
    headers = _error_headers("GatedRepo", "Access to this model is restricted")
    return Fault(path, status=403, headers=headers)


def invalid_token(path: str = "*") -> Fault:
    """Return the Hub's answer to a token that it does not know."""
    message = ("x-error-message", "Invalid credentials in Authorization header")
    return Fault(path, status=401, headers=(message,))


def _error_headers(code: str, message: str) -> tuple[tuple[str, str], ...]:
    return (("x-error-code", code), ("x-error-message", message))


class FaultyProxy(ThreadingHTTPServer):
    """A recording reverse proxy on a free loopback port that serves one `olah` port.

    `repositories` is the folder `olah` mirrors (`models/ORG/NAME/.git`).
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream_port: int, repositories: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port = upstream_port
        self.repositories = repositories
        self._lock = threading.Condition()
        self._in_flight = 0
        self._logs: list[Log] = []
        self._faults: list[tuple[Fault, list[None]]] = []

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return int(self.server_address[1])

    @contextmanager
    def recording(self) -> Iterator[Log]:
        """Record the exchanges that begin inside the block; read the log after it."""
        log = Log()
        with self._lock:
            self._wait_until_idle()
            self._logs.append(log)
        try:
            yield log
        finally:
            with self._lock:
                self._wait_until_idle()
                self._logs = [other for other in self._logs if other is not log]

    def _wait_until_idle(self) -> None:
        # A client may have the last byte of a body before its exchange is recorded.
        if not self._lock.wait_for(lambda: self._in_flight == 0, timeout=_IDLE_TIMEOUT_S):
            raise RuntimeError("a request is still being answered")

    @contextmanager
    def misbehaving(self, *faults: Fault) -> Iterator[None]:
        """Apply faults inside the block; of several that match a request, the first one left."""
        entries: list[tuple[Fault, list[None]]] = [(fault, []) for fault in faults]
        with self._lock:
            self._faults = entries + self._faults
        try:
            yield
        finally:
            with self._lock:
                self._faults = [e for e in self._faults if not any(e is own for own in entries)]

    def begin(self, method: str, path: str) -> Fault | None:
        """Note that a request is being answered; return the fault that hits it, and count that."""
        with self._lock:
            self._in_flight += 1
            for fault, hits in self._faults:
                matches = fnmatchcase(path, fault.path) and fnmatchcase(method, fault.method)
                if matches and (fault.times is None or len(hits) < fault.times):
                    hits.append(None)
                    return fault
        return None

    def end(self, exchange: Exchange) -> None:
        """Add an answered request to every recording."""
        with self._lock:
            for log in self._logs:
                log.append(exchange)
            self._in_flight -= 1
            self._lock.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about a client that went away; report anything else."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in separate writes: without this each exchange waits for a delayed ACK.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._exchange()

    def do_HEAD(self) -> None:
        self._exchange()

    def do_POST(self) -> None:
        self._exchange()

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the exchanges are recorded instead."""

    def version_string(self) -> str:
        return "hub"

    @property
    def _proxy(self) -> FaultyProxy:
        return cast(FaultyProxy, self.server)

    def _exchange(self) -> None:
        self._status, self._first_byte, self._sent_bytes = 0, 0, 0
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._path = unquote(urlsplit(self.path).path)
        self._fault = self._proxy.begin(self.command, self._path) or Fault("*")
        try:
            time.sleep(self._fault.delay_s)
            if self._fault.status is not None:
                self._answer_error(self._fault.status, dict(self._fault.headers))
            elif match := _RESOLVE.fullmatch(self._path):
                self._resolve(match)
            else:
                self._forward(body)
        finally:
            self._proxy.end(
                Exchange(
                    self.command,
                    self._path,
                    self.headers.get("Range"),
                    self.headers.get("Authorization"),
                    self._status,
                    self._first_byte,
                    self._sent_bytes,
                )
            )

    def _resolve(self, match: re.Match[str]) -> None:
        """Serve a file of a repository, or send the client of a large one to the other origin."""
        target = self.path.removeprefix("/cdn")
        head = self._ask("HEAD", target)
        if head.status != 200:
            self._answer_missing(head, match)
            return
        headers = _end_to_end_headers(head)
        size = int(headers["content-length"])
        is_large = len(headers["etag"]) == 64
        if is_large and match["cdn"] is None:
            self._redirect(headers, target)
            return
        headers |= {"etag": f'"{headers["etag"]}"', "accept-ranges": "bytes"}
        if not is_large and "gzip" in self.headers.get("Accept-Encoding", ""):
            self._send_compressed(headers, target)
            return
        asked = None if self._fault.ignore_range else self.headers.get("Range")
        span = _requested_span(asked, size)
        if span is not None and span[0] >= size:
            self._answer_error(416, {"content-range": f"bytes */{size}"})
            return
        start, stop = span or (0, size)
        if span:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
        self._send_head(206 if span else 200, headers | {"content-length": str(stop - start)})
        if self.command == "GET":
            self._send_part(self._ask("GET", target), start, stop)

    def _redirect(self, headers: dict[str, str], target: str) -> None:
        # "localhost" is another origin than "127.0.0.1": a client must keep its token to itself.
        location = {
            "location": f"http://localhost:{self._proxy.port}/cdn{target}",
            "x-linked-size": headers["content-length"],
            "x-linked-etag": f'"{headers["etag"]}"',
            "x-repo-commit": headers["x-repo-commit"],
        }
        self._send_head(302, location | {"content-length": "0"})

    def _send_compressed(self, headers: dict[str, str], target: str) -> None:
        # As the Hub does for text: no length, and a range is answered with the whole file.
        del headers["content-length"]
        self._send_head(200, headers | {"content-encoding": "gzip", "transfer-encoding": "chunked"})
        if self.command == "GET":
            content = gzip.compress(self._ask("GET", target).read())
            self.wfile.write(f"{len(content):x}\r\n".encode())
            self._send(content)
            self.wfile.write(b"\r\n0\r\n\r\n")

    def _forward(self, body: bytes) -> None:
        """Pass an API request on to `olah`."""
        target = self.path
        if _DEFAULT_REVISION_API.fullmatch(self._path):
            target = f"{self._path}/revision/main?{urlsplit(self.path).query}"
        answer = self._ask(self.command, target, body)
        match = _REVISION_API.fullmatch(self._path)
        if answer.status >= 400 and match:
            self._answer_missing(answer, match)
            return
        content = answer.read()
        headers = _end_to_end_headers(answer) | {"content-length": str(len(content))}
        self._send_head(answer.status, headers)
        self._send(content)

    def _ask(self, method: str, target: str, body: bytes = b"") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self._proxy.upstream_port)
        # With the client's host, the redirects that `olah` sends lead back to this proxy.
        names = {"host", "accept", "content-type"}
        kept = {k: v for k, v in self.headers.items() if k.lower() in names}
        kept["Connection"] = "close"
        connection.request(method, target, body=body or None, headers=kept)
        return connection.getresponse()

    def _answer_missing(self, answer: http.client.HTTPResponse, match: re.Match[str]) -> None:
        """Name what is missing, as the Hub does: the repository, the revision or the file."""
        repository = self._proxy.repositories / "models" / match["repo_id"]
        revision = match["revision"]
        if not repository.is_dir():
            headers = {k: v for k, v in _end_to_end_headers(answer).items() if k.startswith("x-")}
            self._answer_error(answer.status, headers)
            return
        commit = _find_commit(repository, revision)
        if commit is None:
            headers = dict(_error_headers("RevisionNotFound", f"Invalid rev id: {revision}"))
            self._answer_error(404, headers)
            return
        if answer.status >= 500:  # `olah` itself failed: nothing is missing
            self._answer_error(answer.status, {})
            return
        headers = dict(_error_headers("EntryNotFound", "Entry not found"))
        self._answer_error(404, headers | {"x-repo-commit": commit})

    def _answer_error(self, status: int, headers: dict[str, str]) -> None:
        message = headers.get("x-error-message", http.HTTPStatus(status).phrase)
        content = json.dumps({"error": message}).encode()
        own = {"content-type": "application/json", "content-length": str(len(content))}
        self._send_head(status, headers | own)
        self._send(content)

    def _send_head(self, status: int, headers: dict[str, str]) -> None:
        self._status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_part(self, answer: http.client.HTTPResponse, start: int, stop: int) -> None:
        """Send bytes [start, stop) of a body that `olah` always sends whole."""
        self._first_byte = start
        position = 0
        while position < stop and (chunk := answer.read(_CHUNK_BYTES)):
            if self._fault.flip_byte is not None:
                chunk = _flip_byte(chunk, self._fault.flip_byte - position)
            if position + len(chunk) > start:
                self._send(chunk[max(0, start - position) : stop - position])
            position += len(chunk)
            if self._sent_bytes == self._fault.cut_after_bytes:
                break
        answer.close()

    def _send(self, content: bytes) -> None:
        if self.command == "HEAD":
            return
        limit = self._fault.cut_after_bytes
        if limit is not None and self._sent_bytes + len(content) >= limit:
            content = content[: limit - self._sent_bytes]
            self.close_connection = True
        self.wfile.write(content)
        self._sent_bytes += len(content)


def _end_to_end_headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    headers = ((name.lower(), value) for name, value in answer.getheaders())
    return {name: value for name, value in headers if name not in _HOP_BY_HOP}


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


def _find_commit(repository: Path, revision: str) -> str | None:
    arguments = ["rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}"]
    command = ["git", "-C", str(repository), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


class HubServer:
    """A Hub on loopback over the repositories that `publish` makes; use `HubServer.start`."""

    def __init__(self, folder: Path, olah: subprocess.Popen[bytes], proxy: FaultyProxy) -> None:
        self.folder = folder
        self.proxy = proxy
        self.endpoint = f"http://127.0.0.1:{proxy.port}"
        self._olah = olah
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()

    @classmethod
    def start(cls, folder: Path) -> HubServer:
        """Serve the repositories below a folder, once `olah` answers."""
        (folder / "repositories" / "models").mkdir(parents=True, exist_ok=True)
        port = _free_port()
        olah = _start_olah(folder, port)
        try:
            _wait_for(olah, port, folder / "olah.txt")
        except BaseException:
            olah.kill()
            raise
        return cls(folder, olah, FaultyProxy(port, folder / "repositories"))

    def __enter__(self) -> HubServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving and end `olah`."""
        self.proxy.shutdown()
        self.proxy.server_close()
        self._olah.terminate()
        try:
            self._olah.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._olah.kill()
            self._olah.wait()

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables that send a Hub client here and keep its files below `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def publish(
        self,
        repo_id: str,
        folder: Path,
        *,
        branch: str = "main",
        lfs: tuple[str, ...] = ("*.safetensors",),
    ) -> str:
        """Commit the files of a folder to a branch, replacing its tree, and return the commit sha.

        Files whose name matches a glob of `lfs` are stored as git LFS objects. A binary file of 121
        to 149 bytes must be one of them: `olah` reads those of this size as text.
        """
        repository = self.folder / "repositories" / "models" / repo_id
        if not repository.exists():
            _git(repository, "init", "--quiet", f"--initial-branch={branch}")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        stream = [_commit_header(branch, _find_commit(repository, f"refs/heads/{branch}"))]
        for path in files:
            is_large = any(fnmatchcase(path.name, pattern) for pattern in lfs)
            content = _store_large(repository, path) if is_large else path.read_bytes()
            name = json.dumps(path.relative_to(folder).as_posix(), ensure_ascii=False)
            stream.append(f"M 100644 inline {name}\ndata {len(content)}\n".encode())
            stream += [content, b"\n"]
        _git(repository, "fast-import", "--quiet", stdin=b"".join(stream))
        commit = _find_commit(repository, f"refs/heads/{branch}")
        assert commit is not None
        return commit


def _commit_header(branch: str, parent: str | None) -> bytes:
    lines = [
        f"commit refs/heads/{branch}",
        "committer Test <test@example.org> 1700000000 +0000",
        "data 7",
        "Publish",
        *([f"from {parent}"] if parent else []),
        "deleteall\n",
    ]
    return "\n".join(lines).encode()


def _store_large(repository: Path, path: Path) -> bytes:
    """Put a file among a repository's LFS objects and return its pointer (git-lfs spec v1)."""
    digest = _sha256(path)
    stored = repository / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    stored.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, stored)
    lines = ["version https://git-lfs.github.com/spec/v1", f"oid sha256:{digest}"]
    return "\n".join([*lines, f"size {path.stat().st_size}\n"]).encode()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "-C", str(folder), *arguments], input=stdin, check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_olah(folder: Path, port: int) -> subprocess.Popen[bytes]:
    config = folder / "olah.toml"
    basic = {
        "host": "127.0.0.1",
        "port": port,
        "repos-path": str(folder / "cache"),
        "mirrors-path": [str(folder / "repositories")],
    }
    # JSON's strings, numbers and lists are written the same in TOML.
    lines = ["[basic]", *(f"{key} = {json.dumps(value)}" for key, value in basic.items())]
    config.write_text("\n".join([*lines, "[accessibility]", "offline = true"]) + "\n")
    command = [sys.executable, "-m", "olah.server", "--config", str(config)]
    with (folder / "olah.txt").open("wb") as output:
        return subprocess.Popen(
            [*command, "--log-path", str(folder / "logs")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )


def _wait_for(olah: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and olah.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    said = output.read_text(errors="replace")
    raise RuntimeError(f"olah does not answer on port {port}:\n{said}")
