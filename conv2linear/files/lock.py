"""Let one process at a time hold a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time

from conv2linear.files.limits import is_unsupported

_PAUSES_S = (0.01, 0.04)  # between the attempts to lock


class FolderLock:
    """The lock of an open folder, held until it is released or the process ends, however it does.

    Making it raises `BlockingIOError` where another process holds the folder, and goes on doing so:
    one that only looks whether it is held has it for a moment. On a file system
    without locks it is a name that the kernel gives to one process of this machine at a time;
    processes of another machine are not seen then, nor any on a system without such names.
    """

    def __init__(self, descriptor: int) -> None:
        self._name: socket.socket | None = None
        for pause_s in _PAUSES_S:
            with contextlib.suppress(BlockingIOError):
                self._take(descriptor)
                return
            time.sleep(pause_s)
        self._take(descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            if not is_unsupported(error):
                raise
            self._name = _take_name(descriptor)

    def release(self) -> None:
        """Give up the name; a lock of the file system ends as its descriptor is closed."""
        if self._name is not None:
            self._name.close()


def _take_name(descriptor: int) -> socket.socket | None:
    """Bind a socket to a name that stands for an open folder; it is in no file system."""
    if sys.platform != "linux":
        return None
    status = os.fstat(descriptor)
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0conv2linear {status.st_dev} {status.st_ino}")
    except OSError as error:
        name.close()
        if error.errno == errno.EADDRINUSE:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK)) from None
        return None
    return name
