"""A web server on a free loopback port that records what it answers and can be made to fail."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from tests.support.hub.exchanges import Exchange, Fault, Log

if TYPE_CHECKING:
    import pytest

_IDLE_TIMEOUT_S = 60.0


class LoopbackHub(ThreadingHTTPServer):
    """What both Hubs on loopback share; each is a context manager that serves until its end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.port = int(self.server_address[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"
        # "localhost" is another origin than "127.0.0.1": a client must keep its token to itself.
        self.storage_endpoint = f"http://localhost:{self.port}"
        self._lock = threading.Condition()
        self._in_flight = 0
        self._logs: list[Log] = []
        self._faults: list[tuple[Fault, list[None]]] = []
        self._connections: list[socket.socket] = []
        self._is_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def serve(self) -> None:
        """Answer requests from now on."""
        self._is_up = True
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        if self._is_up:
            self._is_up = False
            self.shutdown()
            self.server_close()

    def go_down(self) -> None:
        """Refuse new connections and break those that there are, as a killed process does."""
        self.stop()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def come_back(self) -> None:
        """Answer again after `go_down`, at the same address."""
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()
        self.server_activate()
        self.serve()

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables that send a Hub client here and keep its files below `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def be_the_hub(self, patch: pytest.MonkeyPatch, *, token: str, xet: bool) -> None:
        """Send the Hub client of this process here, over Xet or not."""
        from huggingface_hub import constants  # not needed to be a Hub

        patch.setattr(constants, "ENDPOINT", self.endpoint)
        template = self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
        patch.setenv("HF_TOKEN", token)

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
                if fault.matches(method, path) and (fault.times is None or len(hits) < fault.times):
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

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        self._connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about a client that went away, and when it is down; report anything else."""
        if self._is_up and not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)
