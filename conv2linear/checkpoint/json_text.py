"""Edit JSON text in place, so that everything that is not meant to change stays byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_WHITESPACE = re.compile(r"[ \t\n\r]*")
MAX_NESTING = 127  # recursion limit of serde_json, which the safetensors crate parses with
_DECODER = json.JSONDecoder()


class Member(NamedTuple):
    """One `"key": value` of an object; `text[start:end]` is the text of the value."""

    key: str
    key_start: int
    start: int
    end: int


def loads_without_duplicates(text: str, **hooks: Any) -> Any:
    """Parse JSON as `json.loads` does, but refuse an object that has a key twice.

    Raises `ValueError`, for bad syntax, a duplicate key and nesting that is too deep alike.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs, **hooks)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def loads_document(text: str) -> Any:
    """Parse JSON that may be edited afterwards, where no edit can meet a recursion limit.

    Raises `ValueError` as `loads_without_duplicates` does.
    """
    value = loads_without_duplicates(text)
    if nesting(value) > MAX_NESTING:
        raise ValueError("nested too deeply")
    return value


def nesting(value: Any) -> int:
    """Count the levels of nested containers, without recursion: the input is hostile."""
    depth, level = 0, [value]
    while level:
        level = [child for item in level for child in _children(item)]
        depth += 1
    return depth - 1


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values()) or [None]
    return value or [None] if isinstance(value, list) else []


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"duplicate key {key!r}")
            seen.add(key)
    return unique


def members(text: str, start: int = 0) -> Iterator[Member]:
    """Yield the members of the object that opens at `start`; `text` must be valid JSON."""
    at = _skip(text, _skip(text, start) + 1)
    while text[at] != "}":
        key_start = at
        key, at = _DECODER.raw_decode(text, at)
        value_start = _skip(text, _skip(text, at) + 1)
        at = _value_end(text, value_start)
        yield Member(key, key_start, value_start, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)


def find(text: str, *path: str) -> Member | None:
    """Find the member under `path`, a key for each level, or None where there is none."""
    found: Member | None = None
    for key in path:
        start = found.start if found else 0
        if text[_skip(text, start)] != "{":
            return None
        found = next((m for m in members(text, start) if m.key == key), None)
        if found is None:
            return None
    return found


def replace(text: str, span: tuple[int, int], new: str) -> str:
    """Put `new` in the place of `text[span]`."""
    return text[: span[0]] + new + text[span[1] :]


def set_member(text: str, path: tuple[str, ...], value: Any) -> str:
    """Set the member under `path`: its value is replaced, or it is added as the last of its object.

    All but the last key of `path` must name objects that exist.
    """
    existing = find(text, *path)
    if existing:
        return replace(text, (existing.start, existing.end), _dumps(value))
    parent = find(text, *path[:-1]) if len(path) > 1 else None
    start = parent.start if parent else 0
    last = next(reversed(list(members(text, start))), None)
    key = f"{json.dumps(path[-1], ensure_ascii=False)}: "
    if last is None:
        opening = _skip(text, start) + 1
        return replace(text, (opening, opening), key + _dumps(value))
    indent = _indent_before(text, last.key_start)
    separator = f",{indent}" if indent else ", "
    return replace(text, (last.end, last.end), separator + key + _dumps(value, indent))


def remove_member(text: str, path: tuple[str, ...]) -> str:
    """Remove the member under `path`, which must exist, and one comma beside it."""
    parent = find(text, *path[:-1]) if len(path) > 1 else None
    start = parent.start if parent else 0
    siblings = list(members(text, start))
    at = next(i for i, member in enumerate(siblings) if member.key == path[-1])
    if at > 0:  # from the end of the one before, its comma included
        return replace(text, (siblings[at - 1].end, siblings[at].end), "")
    if len(siblings) > 1:
        return replace(text, (siblings[0].key_start, siblings[1].key_start), "")
    opening = _skip(text, start)
    return replace(text, (opening + 1, _skip(text, siblings[0].end)), "")


def append_items(text: str, path: tuple[str, ...], items: list[str]) -> str:
    """Append strings to the array under `path`, each separated as its last item is."""
    array = find(text, *path)
    if array is None:
        raise KeyError(path)
    at = _skip(text, array.start + 1)
    if text[at] == "]":
        return replace(text, (array.start, array.end), _dumps(items))
    while True:
        item_start, end = at, _value_end(text, at)
        at = _skip(text, end)
        if text[at] == "]":
            break
        at = _skip(text, at + 1)
    separator = "," + (_indent_before(text, item_start) or " ")
    added = "".join(separator + json.dumps(item, ensure_ascii=False) for item in items)
    return replace(text, (end, end), added)


def _skip(text: str, at: int) -> int:
    match = _WHITESPACE.match(text, at)
    return match.end() if match else at


def _value_end(text: str, start: int) -> int:
    return _DECODER.raw_decode(text, start)[1]


def _indent_before(text: str, at: int) -> str:
    """Return the line break and indentation in front of `at`, or "" where none is there."""
    before = text[:at]
    gap = before[len(before.rstrip(" \t\n\r")) :]
    return gap[gap.rindex("\n") :] if "\n" in gap else ""


def _dumps(value: Any, indent: str = "") -> str:
    """Format `value` on one line, or over several below a member that is indented by `indent`."""
    if not indent or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    step = indent[1:] or "  "
    lines = json.dumps(value, ensure_ascii=False, indent=step)
    return lines.replace("\n", indent)
