"""A Hub on loopback that can die, with all its connections, and come back at the same address."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.hub_server import FaultyProxy, HubServer


class MortalHub:
    """The test suite's Hub, behind a proxy that can be ended like a process that is killed."""

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub
        self._port = hub.proxy.port
        self.die()
        self.come_back()

    def die(self) -> None:
        """Refuse new connections and break those that there are."""
        self.hub.proxy.shutdown()
        self.hub.proxy.server_close()
        if isinstance(self.hub.proxy, _MortalProxy):
            self.hub.proxy.break_connections()

    def come_back(self) -> None:
        """Answer again."""
        old = self.hub.proxy
        self.hub.proxy = _MortalProxy(old.upstream_port, old.repositories, port=self._port)
        threading.Thread(target=self.hub.proxy.serve_forever, args=(0.05,), daemon=True).start()


class _MortalProxy(FaultyProxy):
    def __init__(self, upstream_port: int, repositories: Path, *, port: int) -> None:
        super().__init__(upstream_port, repositories)
        self.socket.close()  # it took a port of its own choice
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_address = ("127.0.0.1", port)
        self.server_bind()
        self.server_activate()
        self._connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        self._connections.append(request)
        super().process_request(request, client_address)

    def break_connections(self) -> None:
        """End every connection in the middle of whatever it carries."""
        for connection in self._connections:
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: what goes wrong here is meant to."""


@contextmanager
def served(folder: Path) -> Iterator[MortalHub]:
    """Serve the repositories that are published below a folder."""
    with HubServer.start(folder) as hub:
        yield MortalHub(hub)
