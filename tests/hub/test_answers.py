"""An answer of the Hub is one that it gives, and not an error that it gives instead."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from conv2linear.hub.answers import open_stream

STATUSES = (200, 400, 404, 501)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the status that the path names."""
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield address
        server.shutdown()


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_of_400_or_more_is_an_error(address: str, status: int) -> None:
    try:
        with open_stream(f"{address}/{status}") as response:
            found = response.status_code
    except HfHubHTTPError as error:
        found = error.response.status_code
        assert status >= 400
    else:
        assert status < 400
    assert found == status
