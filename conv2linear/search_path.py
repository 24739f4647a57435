"""Keep the working directory off the path on which Python looks for modules.

It may be the folder of a checkpoint, and hold a `torch.py`. This runs before anything else is
imported, so that it imports nothing itself but what Python has loaded by then.
"""

import os
import sys


def working_directory() -> str | None:
    """Return the real path of the working directory, None where it is gone."""
    try:
        return os.path.realpath(os.curdir)
    except OSError:
        return None


def drop_working_directory() -> None:
    """Take the working directory from the search path, under whatever name it is there."""
    here = working_directory()
    sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != here]


def drop_folders(arguments: list[str]) -> None:
    """Take from the search path what lies in the folders that a command line names.

    `PYTHONPATH` may lead into a checkpoint. A folder that Python itself or this package lies in is
    no checkpoint.
    """
    named = [each.rpartition("=")[2] if each[:1] == "-" else each for each in arguments]
    folders = [os.path.realpath(each) for each in named if each]
    own = [os.path.realpath(each) for each in (__file__, sys.prefix, sys.base_prefix)]
    for folder in folders:
        if not any(_lies_in(each, folder) for each in own):
            sys.path[:] = [e for e in sys.path if not _lies_in(os.path.realpath(e), folder)]


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def is_run_as_module(package: str) -> bool:
    """Tell whether Python is about to run `package` by `python -m`, which adds that directory."""
    options = [each for each in sys.orig_argv if each[:1] == "-"]
    is_named = package in sys.orig_argv or any(each.endswith(f"m{package}") for each in options)
    return getattr(sys, "argv", [])[:1] == ["-m"] and is_named
