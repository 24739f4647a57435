"""Which mount a file lies on: the same file system may be mounted at several places."""

from __future__ import annotations

import os
from pathlib import Path


def mount_id(path: Path) -> int | None:
    """Return the number of the mount that a file or folder is reached by, where Linux tells it.

    No hard link leads from one mount to another, even of the same file system.
    """
    try:
        descriptor = os.open(path, os.O_PATH)
    except (AttributeError, OSError):  # other systems have no O_PATH
        return None
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    found = [line.split()[1] for line in lines if line.startswith("mnt_id:")]
    return int(found[0]) if found else None
