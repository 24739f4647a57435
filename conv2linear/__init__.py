"""Rewrite the Conv3d patch embedding of a vision-language checkpoint as the linear layer it is.

The verbs of the command line, as functions that return dataclasses. Nothing heavy is imported
before one of them is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from conv2linear.version import __version__

if TYPE_CHECKING:
    from conv2linear.conversion import convert, plan_conversion
    from conv2linear.errors import Conv2LinearError
    from conv2linear.inspection import inspect_checkpoint

_HOMES = {
    "Conv2LinearError": "errors",
    "convert": "conversion",
    "inspect_checkpoint": "inspection",
    "plan_conversion": "conversion",
}

__all__ = ["Conv2LinearError", "__version__", "convert", "inspect_checkpoint", "plan_conversion"]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
