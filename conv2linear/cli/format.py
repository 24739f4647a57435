"""Format sizes, and text from outside, for people."""

from __future__ import annotations

from conv2linear.text import printable_line


def format_bytes(count: int) -> str:
    """Format a size as people read it, in powers of 1000."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_text(text: str) -> str:
    """Put text on one line, with escapes for what a terminal would obey instead of showing."""
    return printable_line(text)
