"""Words for people: enums that read as their value, plurals, sizes, commands, what was meant."""

from __future__ import annotations

import enum
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class TextEnum(str, enum.Enum):
    """An enum whose members are text: in JSON, in messages and in comparisons."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, specification: str) -> str:
        return format(str(self.value), specification)


def plural(number: int, noun: str) -> str:
    """Write a number of things: `1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable_line(text: str) -> str:
    """Put text on one line, with escapes for what a terminal or a page would obey, not show."""
    line = " ".join(part.strip() for part in text.splitlines())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def format_bytes(count: int) -> str:
    """Format a size as people read it, in powers of 1000."""
    if count == 1:
        return "1 byte"
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def write_command(verb: str, *words: str | Path) -> str:
    """Write a command of this program as a shell takes it.

    A path is never taken for an option or for the name of something else.
    """
    texts = [
        f"./{word}" if isinstance(word, Path) and str(word)[0] not in "/." else str(word)
        for word in words
    ]
    return shlex.join(["conv2linear", verb, *texts])


def find_meant(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a mistyped one is most like, None where none is."""
    by_lower = {each.lower(): each for each in known}
    like = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[like[0]] if like else None


def hint_known(name: str, known: Iterable[str]) -> str:
    """Return the hint for a name that is not known: the one that was meant, and all there are."""
    names = [str(each) for each in known]
    meant = find_meant(name, names)
    return (f"did you mean {meant}? " if meant else "") + f"known are {', '.join(names)}"
