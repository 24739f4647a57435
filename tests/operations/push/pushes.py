"""What tests of pushes share: names, pushes of their own kind, and what the Hub saw of them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from conv2linear.operations.convert import convert
from conv2linear.operations.push import PushResult, publish
from conv2linear.plan.push_inputs import Destination
from tests.support.hub.exchanges import Log

SOURCE = "org/source"
RESHAPED = "model-00001-of-00009.safetensors"
CHANGED = ("README.md", "config.json", "conv2linear.json", RESHAPED)
WRITES = ("POST", "PUT", "DELETE", "PATCH")


def convert_own(own_source: tuple[str, str], out: Path) -> Path:
    """Convert the source that a test may change to an overlay."""
    convert(own_source[0], out, revision=own_source[1], changed_only=True)
    return out


def push_in_portions(
    checkpoint: Path, repo_id: str, *, branch: str | None = None, create_pr: bool = False
) -> PushResult:
    """Push with no more than four files in a commit."""
    destination = Destination(repo_id, branch or "main", create_pr=create_pr)
    return publish(checkpoint, destination, max_commit_files=4)


def writes(log: Log) -> list[str]:
    """Return the requests that change something on the Hub."""
    asked = [e for e in log if e.method in WRITES and "/paths-info/" not in e.path]
    return [f"{e.method} {e.path}" for e in asked]


def shard_bytes(log: Log) -> int:
    """Return how many bytes of large files came to the Hub."""
    return log.of("*", "PUT").received_bytes()


def commit_meanwhile(
    monkeypatch: pytest.MonkeyPatch, api: HfApi, name: str, *, before: str
) -> None:
    """Let somebody else commit to `name` right before the client's call of this name."""
    original = getattr(HfApi, before)
    pending = [CommitOperationAdd("notes.md", b"Somebody else\n")]

    def call(self: HfApi, *arguments: object, **options: object) -> object:
        if pending:
            addition = [pending.pop()]
            api.create_commit(name, addition, commit_message="Meanwhile")
        return original(self, *arguments, **options)

    monkeypatch.setattr(HfApi, before, call)


@contextlib.contextmanager
def opened_shards() -> Iterator[list[str]]:
    """Note the name of each shard that a file object of this process is opened for."""
    opened: list[str] = []
    is_over = False

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or is_over or arguments[1] is None:  # of `os.open`, inside another
            return
        if isinstance(arguments[0], str | os.PathLike):
            path = Path(os.fspath(arguments[0]))
            if path.suffix == ".safetensors":
                opened.append(path.name)

    sys.addaudithook(note)  # there is no way to remove it
    try:
        yield opened
    finally:
        is_over = True
