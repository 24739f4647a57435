"""A Hub on loopback that can die, with all its connections, and come back at the same address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.hub.read_server import HubServer


class MortalHub:
    """The test suite's Hub, which can be ended like a process that is killed."""

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub

    def die(self) -> None:
        """Refuse new connections and break those that there are."""
        self.hub.go_down()

    def come_back(self) -> None:
        """Answer again."""
        self.hub.come_back()


@contextmanager
def served(folder: Path) -> Iterator[MortalHub]:
    """Serve the repositories that are published below a folder."""
    with HubServer(folder) as hub:
        yield MortalHub(hub)
