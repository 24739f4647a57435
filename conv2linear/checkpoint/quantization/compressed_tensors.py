"""What the groups of a compressed-tensors config take, and what they do to a linear layer.

As in transformers 5.24 (`quantizers/quantizer_compressed_tensors.py`,
`integrations/compressed_tensors.py`) and compressed-tensors 0.20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NOT_FLOAT8 = (
    "compressed-tensors other than 8-bit float: transformers 5.21 and 5.22 load it with a random "
    "patch embedding, 5.23 and 5.24 refuse it"
)
_NO_GROUPS = (
    "compressed-tensors without groups of weights, such as one for the KV cache alone: "
    "transformers 5.24 refuses it with a linear patch embedding"
)


def read_targets(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the targets of all groups that quantise weights."""
    groups = _read_groups(values)
    return tuple(t for group in groups if _weights(group) is not None for t in _targets(group))


def is_dequantized(values: Mapping[str, Any]) -> bool:
    """Tell whether the weights are dequantised on load: then no module is replaced."""
    return bool(values.get("dequantize")) or values.get("run_compressed") is False


def find_fusion_problem(values: Mapping[str, Any]) -> str | None:
    """Say why transformers does not load a linear patch embedding, None where it does.

    It decompresses what it converts, the patch embedding too, by the scheme of one of the groups,
    be that layer among its targets or not. All but 8-bit float lose the weight there.
    """
    groups = _read_groups(values)
    if not groups:
        return _NO_GROUPS
    # 5.24 goes by the group for experts; that the first has to be so too is for those before it.
    deciding = (groups[0], _find_experts_group(groups))
    return None if all(_is_float8(group) for group in deciding) else _NOT_FLOAT8


def _find_experts_group(groups: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Find the group of the experts as `get_experts_scheme` does."""
    for group in groups:
        if any(t.startswith("re:") and "experts" in t for t in _targets(group)):
            return group
    named = (group for group in groups if any(not t.startswith("re:") for t in _targets(group)))
    return next(named, groups[0])


def _read_groups(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = values.get("config_groups")
    if not isinstance(groups, dict):
        return []
    return [group if isinstance(group, dict) else {} for group in groups.values()]


def _targets(group: Mapping[str, Any]) -> list[str]:
    targets = group.get("targets")
    return [t for t in targets if isinstance(t, str)] if isinstance(targets, list) else []


def _weights(group: Mapping[str, Any]) -> Mapping[str, Any] | None:
    weights = group.get("weights")
    return weights if isinstance(weights, dict) else None


def _is_float8(group: Mapping[str, Any]) -> bool:
    weights = _weights(group) or {}
    return weights.get("num_bits") == 8 and weights.get("type") == "float"
