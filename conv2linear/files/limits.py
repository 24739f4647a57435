"""The errors by which a file system says what it lacks: then that is left out, as in `cp`."""

from __future__ import annotations

import errno

# `flock`, `fsync`, `fchmod` and `renameat2` give one of these where there is no such thing; EBADF
# and EISDIR where it is there for files, and not for folders.
NOT_SUPPORTED = frozenset(
    {
        errno.EBADF,
        errno.EINVAL,
        errno.EISDIR,
        errno.ENOLCK,
        errno.ENOSYS,
        errno.ENOTSUP,
        errno.ENOTTY,
        errno.EOPNOTSUPP,
    }
)
NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_SPACE = frozenset({errno.EDQUOT, errno.ENOSPC})


def is_unsupported(error: OSError) -> bool:
    """Tell whether a system call failed because there is no such call for this file."""
    return error.errno in NOT_SUPPORTED


def find_limit_hint(error: OSError) -> str | None:
    """Say which limit of this machine or process stands behind an error, None where none does."""
    return _LIMIT_HINTS.get(error.errno or 0)


_LIMIT_HINTS = {
    errno.EMFILE: "this process may not open more files: `ulimit -n 1024` lets it",
    errno.ENFILE: "too many files are open on this machine: close some and run again",
    errno.EFBIG: "the file system, or `ulimit -f`, allows no file of that size",
}
