"""Rewrite the Conv3d patch embedding of a vision-language checkpoint as the linear layer it is.

The verbs of the command line, as functions that return dataclasses. Nothing heavy is imported
before one of them is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from conv2linear.version import __version__

if TYPE_CHECKING:
    from conv2linear.engines.detection import installed_engines
    from conv2linear.errors import Conv2LinearError
    from conv2linear.operations.convert import Conversion, convert, plan_conversion
    from conv2linear.operations.inspect import Inspection, inspect_checkpoint
    from conv2linear.operations.push import PushResult, plan_push, push
    from conv2linear.operations.restore import Restoration, restore
    from conv2linear.operations.verify.report import render_report, write_report
    from conv2linear.operations.verify.result import Check, Verification
    from conv2linear.operations.verify.verify import verify
    from conv2linear.plan.convert import ConversionPlan

_HOMES = {
    "Check": "operations.verify.result",
    "Conv2LinearError": "errors",
    "Conversion": "operations.convert",
    "ConversionPlan": "plan.convert",
    "Inspection": "operations.inspect",
    "PushResult": "operations.push",
    "Restoration": "operations.restore",
    "Verification": "operations.verify.result",
    "convert": "operations.convert",
    "inspect_checkpoint": "operations.inspect",
    "installed_engines": "engines.detection",
    "plan_conversion": "operations.convert",
    "plan_push": "operations.push",
    "push": "operations.push",
    "render_report": "operations.verify.report",
    "restore": "operations.restore",
    "verify": "operations.verify.verify",
    "write_report": "operations.verify.report",
}

__all__ = [
    "Check",
    "Conv2LinearError",
    "Conversion",
    "ConversionPlan",
    "Inspection",
    "PushResult",
    "Restoration",
    "Verification",
    "__version__",
    "convert",
    "inspect_checkpoint",
    "installed_engines",
    "plan_conversion",
    "plan_push",
    "push",
    "render_report",
    "restore",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
