"""Format sizes, times, and text from outside, for people."""

from __future__ import annotations

from pathlib import Path

from conv2linear.text import format_bytes as format_bytes
from conv2linear.text import printable_line, write_command

BYTES = "bytes"  # the unit that has others above it


def format_amount(total: int, unit: str, *, done: int | None = None) -> str:
    """Format how much there is in a unit such as "patches", and how much of it is done."""
    if unit == BYTES:
        text = format_bytes(total)
        return text if done is None else f"{format_bytes(done)}/{text}"
    return f"{total:,} {unit}" if done is None else f"{done:,}/{total:,} {unit}"


def format_clock(seconds: float) -> str:
    """Format a time as a clock shows it: hours, minutes, seconds."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def format_duration(seconds: float) -> str:
    """Format how long something took."""
    return f"{seconds:.1f} s" if seconds < 60 else format_clock(seconds)


def format_command(verb: str, *words: str | Path) -> str | None:
    """Write a command of this program for a terminal; None where that cannot show it whole."""
    command = write_command(verb, *words)
    return command if command.isprintable() else None


def format_text(text: str) -> str:
    """Put text on one line, with escapes for what a terminal would obey instead of showing."""
    return printable_line(text)
