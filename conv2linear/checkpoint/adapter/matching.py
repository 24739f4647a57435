"""Which modules of a model an adapter belongs to, as PEFT reads its config.

The rules are those of PEFT 0.21: `check_target_module_exists` for what is targeted,
`get_pattern_key` for ranks and alphas, `_set_trainable` for full copies. An answer is None where a
pattern of the config is not tried here: see `module_pattern`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from conv2linear.checkpoint.quantization.module_pattern import matches

ALL_LINEAR = "all-linear"


def is_all_linear(values: Mapping[str, Any]) -> bool:
    """Tell whether a config targets every linear layer of the model but its head."""
    target = values.get("target_modules")
    return isinstance(target, str) and target.lower() == ALL_LINEAR


def is_targeted(values: Mapping[str, Any], module: str, *, is_linear: bool) -> bool | None:
    """Tell whether PEFT makes an adapter for a module, which is an `nn.Linear` or is not."""
    excluded = is_excluded(values, module)
    if excluded is not False:
        return None if excluded is None else False
    target = values.get("target_modules")
    if is_all_linear(values):
        return is_linear
    if isinstance(target, str):
        return matches(target, module)
    if target is None or module in target:
        return target is not None
    if not any(module.endswith(f".{entry}") for entry in target):
        return False
    if values.get("layers_to_transform") in (None, []):
        return True
    # Names of layers count then, and such a module has no number; where one has, it is not tried.
    return None if any(part.isdigit() for part in module.split(".")) else False


def is_excluded(values: Mapping[str, Any], module: str) -> bool | None:
    """Tell whether a config keeps adapters away from a module, whatever it targets."""
    exclude = values.get("exclude_modules")
    if isinstance(exclude, str):
        found = matches(exclude, module) if exclude else False
    else:
        found = any(module == entry or module.endswith(f".{entry}") for entry in exclude or ())
    return _any([found, *(_is_in_path(entry, module) for entry in _copies(values))])


def is_saved(values: Mapping[str, Any], module: str) -> bool:
    """Tell whether an adapter has a full copy of a module, or of one that it is a part of."""
    parts = module.split(".")
    paths = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(path.endswith(entry) for path in paths for entry in _copies(values))


def pattern_value(values: Mapping[str, Any], field: str, module: str, default: Any) -> Any:
    """Return what `rank_pattern` or `alpha_pattern` has for a module, or else the default.

    The first key that matches counts. Returns None where a pattern before it is not tried.
    """
    for key, value in (values.get(field) or {}).items():
        found = _any([matches(key, module, start) for start in _starts(module)])
        if found is not False:
            return None if found is None else value
    return default


def _is_in_path(pattern: str, module: str) -> bool | None:
    """Tell whether a regex matches some consecutive parts of a module's name."""
    starts = _starts(module)
    ends = [*(start - 1 for start in starts[1:]), len(module)]
    return _any([matches(pattern, module, a, b) for a in starts for b in ends if a < b])


def _starts(module: str) -> list[int]:
    """Return where the parts of a module's name start."""
    return [0, *(match.end() for match in re.finditer(r"\.", module))]


def _copies(values: Mapping[str, Any]) -> list[str]:
    return values.get("modules_to_save") or []


def _any(answers: list[bool | None]) -> bool | None:
    if True in answers:
        return True
    return None if None in answers else False
