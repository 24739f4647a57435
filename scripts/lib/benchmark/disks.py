"""Places to write to: a folder, and an XFS file system in a loop-mounted image."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.lib.benchmark.processes import run


class NoXfsError(Exception):
    """No XFS image can be mounted here; the message says why."""


@contextmanager
def mounted_xfs(workdir: Path, *, size_bytes: int) -> Iterator[Path]:
    """Make an XFS file system in a sparse image, mount it, and take both away at the end.

    Raises `NoXfsError` where that is not possible.
    """
    if os.geteuid() != 0:
        raise NoXfsError("mounting an image needs root")
    if shutil.which("mkfs.xfs") is None:
        raise NoXfsError("mkfs.xfs is not installed (package xfsprogs)")
    image, mount = workdir / "xfs.img", workdir / "xfs"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    mount.mkdir()
    try:
        for command in (
            ["mkfs.xfs", "-q", str(image)],
            ["mount", "-o", "loop", str(image), str(mount)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NoXfsError(f"{command[0]}: {done.stderr.strip().splitlines()[0]}")
        try:
            yield mount
        finally:
            subprocess.run(["umount", str(mount)], check=True)
    finally:
        mount.rmdir()
        image.unlink()


def used_bytes(folder: Path) -> int:
    """Return how many bytes are used on the file system of `folder`."""
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def drop_from_cache(folder: Path) -> None:
    """Let the page cache forget the files of `folder`, which have to be on the disk already."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def read_into_cache(folder: Path) -> None:
    """Read the files of `folder` once, so that the page cache has them, if it has the room."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass


def sync(folder: Path) -> float:
    """Put every file and folder below `folder` on the disk; returns the seconds that it took."""
    return run(["find", str(folder), "-exec", "sync", "{}", "+"]).wall_s
