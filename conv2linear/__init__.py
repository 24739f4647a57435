"""Rewrite the Conv3d patch embedding of a vision-language checkpoint as the linear layer it is.

The verbs of the command line, as functions that return dataclasses. Nothing heavy is imported
before one of them is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from conv2linear.version import __version__

if TYPE_CHECKING:
    from conv2linear.conversion import Conversion, convert, plan_conversion
    from conv2linear.engines.detection import installed_engines
    from conv2linear.errors import Conv2LinearError
    from conv2linear.inspection import Inspection, inspect_checkpoint
    from conv2linear.plan import ConversionPlan
    from conv2linear.publishing import Push, plan_push, push
    from conv2linear.report import render_report, write_report
    from conv2linear.restoration import Restoration, restore
    from conv2linear.verification import Check, Verification, verify

_HOMES = {
    "Check": "verification",
    "Conv2LinearError": "errors",
    "Conversion": "conversion",
    "ConversionPlan": "plan",
    "Inspection": "inspection",
    "Push": "publishing",
    "Restoration": "restoration",
    "Verification": "verification",
    "convert": "conversion",
    "inspect_checkpoint": "inspection",
    "installed_engines": "engines.detection",
    "plan_conversion": "conversion",
    "plan_push": "publishing",
    "push": "publishing",
    "render_report": "report",
    "restore": "restoration",
    "verify": "verification",
    "write_report": "report",
}

__all__ = [
    "Check",
    "Conv2LinearError",
    "Conversion",
    "ConversionPlan",
    "Inspection",
    "Push",
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
