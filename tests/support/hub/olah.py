"""The process of `olah`, which answers the Hub's API from local git repositories."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.support.installed import need_release

_START_TIMEOUT_S = 60.0


class Olah:
    """`olah` without a network, over the repositories below `folder/repositories`.

    A repository lies in `models/ORG/NAME/.git` there.
    """

    def __init__(self, folder: Path) -> None:
        self.repositories = folder / "repositories"
        (self.repositories / "models").mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        need_release("olah", "0.5", "before, it answers a listing with status 500")
        self._output = folder / "olah.txt"
        self._process = self._start(folder)
        try:
            self._wait()
        except BaseException:
            self._process.kill()
            raise

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        config = folder / "olah.toml"
        basic = {
            "host": "127.0.0.1",
            "port": self.port,
            "repos-path": str(folder / "cache"),
            "mirrors-path": [str(self.repositories)],
        }
        # JSON's strings, numbers and lists are written the same in TOML.
        lines = ["[basic]", *(f"{key} = {json.dumps(value)}" for key, value in basic.items())]
        config.write_text("\n".join([*lines, "[accessibility]", "offline = true"]) + "\n")
        command = [sys.executable, "-m", "olah.server", "--config", str(config)]
        with self._output.open("wb") as output:
            return subprocess.Popen(
                [*command, "--log-path", str(folder / "logs")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        said = self._output.read_text(errors="replace")
        raise RuntimeError(f"olah does not answer on port {self.port}:\n{said}")

    def end(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
