"""A disk in memory that can fill up and be locked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class NoDiskError(Exception):
    """No disk can be mounted here; the message says why."""


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs, mounted at `folder`."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Take every byte that is free."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """Give those bytes back."""
        self._filler.unlink(missing_ok=True)

    def lock(self) -> bool:
        """Make it read-only; False while a file is open for writing."""
        return self._remount("ro")

    def unlock(self) -> None:
        """Make it writable again."""
        self._remount("rw")

    def _remount(self, option: str) -> bool:
        command = ["mount", "-o", f"remount,{option}", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def mounted_disk(folder: Path, *, size_bytes: int) -> Iterator[SmallDisk]:
    """Mount a disk at a new folder. Raises `NoDiskError` where that is not possible."""
    if os.geteuid() != 0:
        raise NoDiskError("mounting a tmpfs needs root")
    if shutil.which("mount") is None:
        raise NoDiskError("mount is not installed")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        if done.returncode:
            raise NoDiskError(f"mount: {done.stderr.strip()}")
        try:
            yield SmallDisk(folder)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        folder.rmdir()
