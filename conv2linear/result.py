"""What the results of all verbs have in common: they are data, and say so as JSON."""

from __future__ import annotations

import dataclasses
import enum
import os
from typing import Any, ClassVar


class Result:
    """A frozen dataclass that a verb returns.

    `derived` names the properties that `to_dict` adds to the fields.
    """

    derived: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and derived values as JSON has them; `--json` prints the same."""
        values: dict[str, Any] = _plain(self)
        return values


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        names += getattr(value, "derived", ())
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, enum.Enum):
        return value.value
    return os.fspath(value) if isinstance(value, os.PathLike) else value
