"""A Hub on loopback in a process of its own, so that its memory is not that of what is measured.

Run as `python -m scripts.lib.benchmark.hub_process FOLDER [SOURCE]`, it publishes SOURCE, prints
one line of JSON with the variables that send a client to it, and serves until its stdin ends.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scripts.lib.results import ROOT

REPO_ID = "org/source"
_HOME = "HOME-OF-THE-CLIENT"


class Hub:
    """A running Hub, with Xet storage; its clients share no cache."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._homes = folder / "homes"
        self._variables = variables

    def variables(self, *, has_xet: bool) -> dict[str, str]:
        """Return the variables of a client that has never been here."""
        shutil.rmtree(self._homes, ignore_errors=True)
        home = str(self._homes)
        variables = {key: each.replace(_HOME, home) for key, each in self._variables.items()}
        return variables | ({} if has_xet else {"HF_HUB_DISABLE_XET": "1"})


@contextmanager
def serving(folder: Path, source: Path | None = None) -> Iterator[Hub]:
    """Serve a checkpoint as `REPO_ID`, or nothing, from files below the new folder `folder`."""
    folder.mkdir()
    command = [sys.executable, "-m", __name__, str(folder), *([str(source)] if source else [])]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin
            assert process.stdout
            yield Hub(folder, json.loads(process.stdout.readline()))
            process.stdin.close()
            process.wait()
        finally:
            process.kill()
            shutil.rmtree(folder)


def main(folder: Path, source: Path | None = None) -> None:
    """Serve until stdin ends."""
    from tests.support.hub.xet_server import XetHub

    with XetHub(folder) as hub:
        if source:
            hub.publish(REPO_ID, source)
        print(json.dumps(hub.environment(Path(_HOME))), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
