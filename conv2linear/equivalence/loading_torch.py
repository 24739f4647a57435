"""Load torch, which takes seconds, and say in one line why it cannot be loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from conv2linear.collector import collector_paused
from conv2linear.errors import DeviceError
from conv2linear.progress import Progress
from conv2linear.text import printable_line


@contextmanager
def loading_torch(progress: Progress) -> Iterator[None]:
    """Show that torch is loaded, by the imports inside.

    Raises `DeviceError` where an installation that is broken, or a limit of memory, prevents it.
    """
    try:
        with progress.beside("load torch"), collector_paused():
            yield
    except (ImportError, OSError, MemoryError) as error:
        raise DeviceError(
            f"torch cannot be loaded: {printable_line(str(error)) or type(error).__name__}",
            hint=f"see what {sys.executable} -c 'import torch' says: it may have to be installed "
            "again, or need more memory than this process may take",
        ) from error
