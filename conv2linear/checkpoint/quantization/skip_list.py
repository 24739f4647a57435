"""Which modules the entries of a skip list keep a quantiser from.

Names match as in transformers 5.24 (`should_convert_module`) and compressed-tensors 0.20
(`utils/match.py`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from conv2linear.checkpoint.model_types import LINEAR_MODULE
from conv2linear.checkpoint.quantization.methods import Choice
from conv2linear.checkpoint.quantization.quantization import Quantization

LINEAR_CLASSES = ("Linear", "Module")  # by which compressed-tensors matches an nn.Linear
_REGEX = "re:"
# As `should_convert_module` ends a pattern: where a part of a dotted name ends.
_BOUNDARY = r"(?:(?<=\.)|(?=\.|$))"
_MAX_REPEATS, _MAX_ALTERNATIVES = 5, 16


@dataclass(frozen=True)
class Entry:
    """An entry of a skip list, or a target, ready to be matched.

    `pattern` is None where none has to be tried, and `is_tried` false where one would have to be,
    and cannot: it is no valid regex, or might never end.
    """

    text: str
    pattern: re.Pattern[str] | None = None
    is_suffix: bool = False
    is_tried: bool = True

    def matches(self, module: str, classes: Iterable[str] = LINEAR_CLASSES) -> bool:
        """Tell whether the entry means a module of this name, of these classes."""
        if self.pattern is not None and self.pattern.match(module):
            return True
        if self.is_suffix:
            return module.endswith(self.text)
        return self.text == module or self.text in classes


def exact_entry(text: str) -> Entry:
    """Read an entry as compressed-tensors does: a module or class name, or `re:` and a regex."""
    if not text.startswith(_REGEX):
        return Entry(text)
    pattern = _compile(text.removeprefix(_REGEX))
    return Entry(text, pattern, is_tried=pattern is not None)


def loose_entry(text: str) -> Entry:
    """Read an entry as `should_convert_module` does: a prefix or regex up to a dot, or a suffix."""
    pattern = _compile(text, before="(?:", behind=f"){_BOUNDARY}")
    return Entry(text, pattern, is_suffix=True, is_tried=pattern is not None)


def read_entries(quantization: Quantization, names: Iterable[str]) -> tuple[Entry, ...]:
    """Read entries as the method of a checkpoint does."""
    rules = quantization.rules
    is_exact = rules is not None and rules.choice is Choice.TARGETS
    read = exact_entry if is_exact else loose_entry
    return tuple(read(name) for name in names)


def covers(quantization: Quantization, module: str = LINEAR_MODULE) -> bool:
    """Tell whether the skip list keeps `module`, an `nn.Linear`, from being quantised.

    An entry that cannot be tried covers nothing: then one more is added, which harms nothing.
    """
    entries = read_entries(quantization, quantization.skip_list or ())
    return any(entry.matches(module) for entry in entries)


def _compile(pattern: str, *, before: str = "", behind: str = "") -> re.Pattern[str] | None:
    """Compile a pattern with what the one who matches puts around it, and nothing else.

    A pattern that is not valid by itself may be so inside a group, as `)(`.
    """
    if not ends_soon(pattern):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of odd, but valid patterns
            return re.compile(before + pattern + behind)
    except (re.error, OverflowError, RecursionError):
        return None  # the engines stop at such an entry themselves


def ends_soon(pattern: str) -> bool:
    """Tell whether matching surely ends soon: a pattern from outside may backtrack for ever."""
    repeats = len(re.findall(r"[*+?{]", pattern))
    return (
        repeats <= _MAX_REPEATS
        and pattern.count("|") <= _MAX_ALTERNATIVES
        and re.search(r"\)[*+{]|\(\?[a-zA-Z]", pattern) is None  # repeated groups, inline flags
    )
