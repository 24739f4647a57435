"""Match a module's name with a pattern from outside, which may be meant to take for ever."""

from __future__ import annotations

import re
import warnings

# A name of some 50 characters meets at most some million ways to share it among this many repeats.
_MAX_REPEATS, _MAX_ALTERNATIVES, _MAX_NAME = 5, 100, 100
_ESCAPES_AND_SETS = re.compile(r"\\.|\[\^?\]?[^\]]*\]", re.DOTALL)
_REPEAT = re.compile(r"[*+}]\??|(?<!\()\?")
_REPEATED_GROUP = re.compile(r"\)[*+{]")


def matches(pattern: str, name: str, start: int = 0, end: int | None = None) -> bool | None:
    """Tell whether a regex matches all of `name[start:end]`.

    `^` stands for the beginning of the name, wherever `start` is. Returns None where the pattern is
    no regex, or is not tried as it could take long: many repeats, or a repeated group.
    """
    if len(name) > _MAX_NAME or not _ends_soon(pattern):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of odd, but valid patterns
            found = re.compile(pattern).fullmatch(name, start, len(name) if end is None else end)
            return found is not None
    except (re.error, OverflowError, RecursionError):
        return None


def _ends_soon(pattern: str) -> bool:
    plain = _ESCAPES_AND_SETS.sub("x", pattern)
    return (
        len(_REPEAT.findall(plain)) <= _MAX_REPEATS
        and plain.count("|") <= _MAX_ALTERNATIVES
        and _REPEATED_GROUP.search(plain) is None
    )
