"""Read which version of conv2linear wrote a record: it says what must be there."""

from __future__ import annotations

import re

from conv2linear.version import __version__

Release = tuple[int, ...]

_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9}){0,5})(?:[-+._]?[A-Za-z][A-Za-z0-9.+_-]{0,60})?")


def parse_release(tool: str) -> Release | None:
    """Return the numbers that a version begins with, None for a text that is no version."""
    match = _VERSION.fullmatch(tool)
    return tuple(int(number) for number in match[1].split(".")) if match else None


def is_newer(tool: object) -> bool:
    """Tell whether a record is that of a later release than this one, whatever it claims beside."""
    release = parse_release(tool) if isinstance(tool, str) else None
    return release is not None and release > (parse_release(__version__) or ())
