"""What a system may lack, and a check that fails: planted in the process of a command before it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

PAUSE_S = 0.1  # before each rename, so that a signal may come between two


def lack_exchange() -> None:
    """Have no renameat2, as on NFS, and rename slowly."""
    library, rename = ctypes.CDLL, Path.rename

    class Library:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._library = library(*arguments, **options)

        def __getattr__(self, name: str) -> Any:
            return _renameat2 if name == "renameat2" else getattr(self._library, name)

    def rename_slowly(self: Path, target: str | os.PathLike[str]) -> Path:
        time.sleep(PAUSE_S)
        return rename(self, target)

    ctypes.CDLL = Library  # type: ignore[misc, assignment]
    Path.rename = rename_slowly  # type: ignore[method-assign, assignment]


def lack_exchange_and_fail() -> None:
    """Have no renameat2, and let the check fail."""
    lack_exchange()
    linear = functional.linear

    def compute_wrongly(*arguments: Any, **options: Any) -> Tensor:
        return linear(*arguments, **options) + 1

    functional.linear = compute_wrongly


def lack_what_network_disks_lack() -> None:
    """Have no locks, no shared blocks, no copies in the kernel and no fsync of folders."""
    fsync, ioctl = os.fsync, fcntl.ioctl

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def refuse_lock(*_: Any) -> Any:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def sync_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    def refuse_to_share(descriptor: int, request: int, *arguments: Any) -> Any:
        return refuse() if request == 0x40049409 else ioctl(descriptor, request, *arguments)

    fcntl.flock, os.fsync, fcntl.ioctl = refuse_lock, sync_files_only, refuse_to_share  # type: ignore[assignment]
    os.copy_file_range = refuse


def _renameat2(*_: Any) -> int:
    ctypes.set_errno(errno.EINVAL)
    return -1
