"""Format sizes, and text from outside, for people."""

from __future__ import annotations

from conv2linear.text import format_bytes as format_bytes
from conv2linear.text import printable_line


def format_text(text: str) -> str:
    """Put text on one line, with escapes for what a terminal would obey instead of showing."""
    return printable_line(text)
