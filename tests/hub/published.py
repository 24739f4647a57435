"""Checkpoints on a Hub of loopback, the command line that reads them, and what it moved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from conv2linear.checkpoint.header import read_header
from tests.support.contents import read_files
from tests.support.hub.exchanges import Log
from tests.support.hub.read_server import HubServer
from tests.support.processes import Finished, RunCli


@dataclass(frozen=True)
class Published:
    """A Hub with what was put there, and the folders that it came from."""

    hub: HubServer
    sharded: Path
    single: Path
    first_commit: str
    main_commit: str


@dataclass(frozen=True)
class HubCli:
    """The command line against that Hub, with an empty cache of its own."""

    run_cli: RunCli
    published: Published
    home: Path
    base: dict[str, str]

    def __call__(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        environment = self.base | self.published.hub.environment(self.home) | dict(env or {})
        return self.run_cli(*arguments, env=environment, cwd=cwd, timeout=timeout)

    def warm_cache(self, repo_id: str, **options: Any) -> None:
        """Download a snapshot with the client itself."""
        api = HfApi(endpoint=self.published.hub.endpoint, token=False)
        api.snapshot_download(repo_id, cache_dir=self.home / "hub", **options)


def bodies(log: Log, name: str) -> list[tuple[int, int]]:
    """Return the parts of a file that were sent, in the order of their start."""
    return log.spans(f"/*/resolve/*/{name}")


def contents(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Return the content of every file below a folder but for some."""
    return {n: c for n, c in read_files(folder).items() if n not in without}


def header_parts(path: Path) -> list[tuple[int, int]]:
    """Return the parts in which a header is read: its length, then exactly the rest of it."""
    return [(0, 8), (8, read_header(path).data_start)]


def assert_converted(out: Path, expected: Path, *, repo_id: str, commit: str, hub: str) -> None:
    """Check that the output is that of the folder, but for where it says that it came from."""
    own = ("conv2linear.json", "README.md")
    assert contents(out, without=own) == contents(expected, without=own)
    manifest = json.loads((out / "conv2linear.json").read_text())
    assert manifest["source"] == {"repo_id": repo_id, "commit_sha": commit, "hub": hub}
    assert repo_id in (out / "README.md").read_text()
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert not (out / ".cache").exists()


def assert_each_byte_once(parts: list[tuple[int, int]], start: int, end: int) -> None:
    """Check that parts of a file stand one behind the other, without a hole and an overlap."""
    assert [start, *(stop for _, stop in parts)] == [*(first for first, _ in parts), end]
