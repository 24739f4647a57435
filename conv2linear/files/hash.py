"""Hash files without loading them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conv2linear.files.pieces import read_pieces


def hash_file(
    path: Path,
    *,
    start: int = 0,
    length: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> str:
    """Return the SHA-256 of `length` bytes of a file from `start`, or of all that follow."""
    digest = hashlib.sha256()
    update_hash(digest, path, start=start, length=length, on_bytes=on_bytes)
    return digest.hexdigest()


def hash_git_blob(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> str:
    """Return the SHA-1 by which git, and so the Hub, names the content of a small file."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    update_hash(digest, path, on_bytes=on_bytes)
    return digest.hexdigest()


def update_hash(
    digest: Any,
    path: Path,
    *,
    start: int = 0,
    length: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Feed bytes of a file to a digest of hashlib."""
    for piece in read_pieces(path, start=start, length=length, on_bytes=on_bytes):
        digest.update(piece)
