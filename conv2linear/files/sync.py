"""Bring files, and the entries of folders, to the disk."""

from __future__ import annotations

import os
from pathlib import Path

from conv2linear.files.limits import is_unsupported


def sync_descriptor(descriptor: int) -> None:
    """Sync an open file or folder, where its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_unsupported(error):
            raise


def sync_file(path: Path) -> None:
    """Sync a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)
