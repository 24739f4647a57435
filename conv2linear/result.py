"""What the results of all operations have in common: they are data, and convert to JSON."""

from __future__ import annotations

import dataclasses
import enum
import math
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

_LONGEST_TEXT = 60  # characters of a text in a repr
_LONGEST_LIST = 6  # numbers or names of a list in a repr


class Result:
    """A frozen dataclass that an operation returns.

    `derived` names the properties that `to_dict` adds to the fields.
    """

    derived: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in cls.__dict__:  # or the dataclass would get the long one of its own
            cls.__repr__ = Result.__repr__  # type: ignore[method-assign]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, then all derived values, in types that JSON has.

        Nested results become dictionaries, sequences become lists, sets sorted lists, paths and
        enums text, and a number that is not finite None. `--json` prints the same, after
        `schema_version` and `command`. Raises `TypeError` for a value that is none of these.
        """
        return {name: to_json_value(getattr(self, name)) for name in _names(self)}

    def __repr__(self) -> str:
        fields = [each for each in dataclasses.fields(self) if each.repr]  # type: ignore[arg-type]
        values = [f"{each.name}={_abbreviate(getattr(self, each.name))}" for each in fields]
        return f"{type(self).__name__}({', '.join(values)})"


def to_json_value(value: Any) -> Any:
    """Convert a value of a result to the types that JSON has, as `Result.to_dict` does."""
    if isinstance(value, Result):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_json_value(getattr(value, name)) for name in _names(value)}
    if isinstance(value, enum.Enum):
        return to_json_value(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): to_json_value(each) for key, each in value.items()}
    if isinstance(value, AbstractSet):
        return [to_json_value(each) for each in sorted(value)]
    if isinstance(value, list | tuple):
        return [to_json_value(each) for each in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _names(value: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(value)] + list(getattr(value, "derived", ()))


def _abbreviate(value: Any) -> str:
    """Write a field of a result in a few words."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}(…)"
    if isinstance(value, enum.Enum):
        return repr(value.value)
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return repr(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")
    if isinstance(value, Mapping):
        return f"<{len(value)} entries>" if value else "{}"
    if isinstance(value, Sequence | AbstractSet):
        return _abbreviate_items(value)
    text = repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"<{type(value).__name__}>"


def _abbreviate_items(items: Sequence[Any] | AbstractSet[Any]) -> str:
    is_plain = all(each is None or isinstance(each, int | float | str) for each in items)
    if is_plain and len(items) <= _LONGEST_LIST:
        text = repr(items)
        if len(text) <= _LONGEST_TEXT:
            return text
    kinds = {type(each).__name__ for each in items}
    return f"<{len(items)} {kinds.pop() if len(kinds) == 1 else 'items'}>"
