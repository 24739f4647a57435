"""Stand for SGLang's registry of hooks, which are applied at once here."""

from __future__ import annotations

import enum
import functools
import importlib
from collections.abc import Callable
from typing import Any


class HookType(enum.Enum):
    """When a hook runs."""

    AFTER = "after"


class HookRegistry:
    """Applies hooks to methods, by their full name."""

    @staticmethod
    def register(target: str, hook: Callable[..., Any], kind: HookType) -> None:
        """Run a hook after each call of a method, with what it returned before its arguments."""
        module, owner, name = target.rsplit(".", 2)
        cls = getattr(importlib.import_module(module), owner)
        method = getattr(cls, name)

        @functools.wraps(method)
        def hooked(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            hook(result, *arguments, **options)
            return result

        setattr(cls, name, hooked)
