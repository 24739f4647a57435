"""A Hub that takes uploads and the checkpoints to push to it, and a Hub that is only read."""

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

__all__ = [
    "api",
    "cli",
    "commit_id",
    "expected",
    "full",
    "hub",
    "overlay",
    "own_source",
    "published",
    "repo_id",
    "source",
]
