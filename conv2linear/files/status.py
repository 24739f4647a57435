"""Ask what is at a path, where "nothing" and "nobody can tell" are different answers.

From Python 3.14 on `Path.exists`, `is_file` and `is_dir` answer False for both.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_NOTHING_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def read_status(path: Path) -> os.stat_result | None:
    """Return the status of what a path leads to, None where it leads nowhere.

    Raises `OSError` where that cannot be told, such as below a folder that may not be read.
    """
    try:
        return path.stat()
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise


def is_folder(path: Path) -> bool:
    """Tell whether a path leads to a folder; raises `OSError` where that cannot be told."""
    status = read_status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)
