"""Words for people: enums that read as their value, and plurals."""

from __future__ import annotations

import enum


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
