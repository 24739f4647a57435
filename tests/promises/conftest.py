"""A Hub that takes uploads, a Hub that is only read, and checkpoints: to push, and large ones."""

from __future__ import annotations

from tests.hub.conftest import cli, expected, published
from tests.operations.push.conftest import (
    api,
    commit_id,
    full,
    hub,
    overlay,
    own_source,
    repo_id,
    source,
)
from tests.output.conftest import large_checkpoint

__all__ = [
    "api",
    "cli",
    "commit_id",
    "expected",
    "full",
    "hub",
    "large_checkpoint",
    "overlay",
    "own_source",
    "published",
    "repo_id",
    "source",
]
