"""What transformers makes of a quantised checkpoint, in one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conv2linear.checkpoint.config import ModelConfig
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.model_types import LINEAR_MODULE
from conv2linear.checkpoint.quantization.loaded_modules import find_linear_projections
from conv2linear.checkpoint.quantization.methods import Choice
from conv2linear.checkpoint.quantization.quantization import Quantization, read_quantization
from conv2linear.checkpoint.quantization.skip_list import covers
from conv2linear.checkpoint.quantization.skip_list_audit import SkipListAudit, audit_skip_list
from conv2linear.checkpoint.quantization.skip_list_edit import plan_skip_list


@dataclass(frozen=True)
class QuantizedLoading:
    """What transformers makes of a quantised checkpoint.

    `transformers_problem` says why the patch embedding would not be loaded as it is stored, with
    the versions that were tried or read, or why nothing would; None where it would. `audit` is
    about all layers: its `problem` says which others would not.
    """

    method: str | None
    transformers_problem: str | None
    audit: SkipListAudit


def judge_quantization(
    config: ModelConfig, headers: Mapping[str, Header], *, is_linear: bool
) -> QuantizedLoading:
    """Say what transformers makes of a quantised checkpoint with this config.

    `is_linear` says whether the patch embedding is linear, or will be: no quantiser takes a Conv3d.
    The headers may be those before a conversion or after it.

    Raises `BadCheckpointError` where the quantisation config or its list is not what it should be.
    """
    audit = audit_skip_list(config, headers)
    quantization = read_quantization(config)
    if quantization is None:
        return QuantizedLoading(None, None, audit)
    problem = None
    if is_linear or quantization.rules is None:
        problem = plan_skip_list(config, headers).refusal_reason
    if is_linear and problem is None:
        problem = find_uncovered(config, headers, quantization)
    return QuantizedLoading(quantization.method, problem, audit)


def find_uncovered(
    config: ModelConfig, headers: Mapping[str, Header], quantization: Quantization
) -> str | None:
    """Say that the skip list does not keep a linear patch embedding from being quantised.

    None where it does, or where the method has no such list.
    """
    rules = quantization.rules
    if rules is None or rules.choice not in (Choice.LIST, Choice.TARGETS):
        return None
    modules = find_linear_projections(config, headers) or (LINEAR_MODULE,)
    if all(covers(quantization, module) for module in modules):
        return None
    return (
        f"{quantization.skip_list_name} does not cover the patch embedding: {quantization.method} "
        "would quantise it on load"
    )
