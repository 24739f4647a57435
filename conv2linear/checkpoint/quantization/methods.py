"""How each quantiser of transformers chooses the layers that it takes: one row for each method.

The rows are the keys of `AUTO_QUANTIZER_MAPPING` of transformers 5.24, read in its `quantizers/`
and `integrations/`. For any other method transformers has no quantiser: it warns, and loads the
stored numbers as if they were the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.text import TextEnum

COMPRESSED_TENSORS = "compressed-tensors"
BITSANDBYTES = "bitsandbytes"
AUTO_ROUND = "auto-round"


class Choice(TextEnum):
    """What decides which layers a quantiser takes."""

    TARGETS = "targets"  # those that a target names, but for a list of modules
    LIST = "list"  # every linear layer, but for a list of modules
    BLOCKS = "blocks"  # the linear layers inside of the blocks that are named
    ELSEWHERE = "elsewhere"  # layers that a patch embedding is never among
    UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Method:
    """How the quantiser of a method chooses layers.

    Of `list_fields`, which name the list of modules to skip, the first that is there is in use.
    `default_skips` are skipped where there is no list, and with a list too where
    `always_skips_defaults` is set. `makes_list` tells whether a list may be made where there is
    none. `takes_experts` is set where experts that are one module are taken too. `is_audited` tells
    whether it is known how the method stores a layer.
    """

    choice: Choice
    list_fields: tuple[str, ...] = ()
    default_skips: tuple[str, ...] = ("lm_head",)
    always_skips_defaults: bool = False
    makes_list: bool = True
    takes_experts: bool = False
    is_audited: bool = False


_NOT_TO_CONVERT = ("modules_to_not_convert",)
_FLOAT8 = Method(
    Choice.LIST, (*_NOT_TO_CONVERT, "ignored_layers"), takes_experts=True, is_audited=True
)
METHODS = {
    COMPRESSED_TENSORS: Method(Choice.TARGETS, ("ignore",), default_skips=(), is_audited=True),
    "fp8": _FLOAT8,
    "mxfp8": _FLOAT8,
    BITSANDBYTES: Method(Choice.LIST, ("llm_int8_skip_modules",), is_audited=True),
    # vLLM finds the layers that are not quantised only while the list is empty.
    "awq": Method(
        Choice.LIST,
        _NOT_TO_CONVERT,
        always_skips_defaults=True,
        makes_list=False,
        is_audited=True,
    ),
    "aqlm": Method(
        Choice.LIST, ("linear_weights_not_to_quantize",), default_skips=(), is_audited=True
    ),
    "fbgemm_fp8": Method(Choice.LIST, _NOT_TO_CONVERT, is_audited=True),
    "eetq": Method(Choice.LIST, _NOT_TO_CONVERT, is_audited=True),
    **dict.fromkeys(
        ("quanto", "higgs", "bitnet", "vptq", "spqr", "sinq"),
        Method(Choice.LIST, _NOT_TO_CONVERT),
    ),
    AUTO_ROUND: Method(Choice.BLOCKS),
    **dict.fromkeys(("gptq", "torchao", "gguf", "mxfp4"), Method(Choice.ELSEWHERE)),
    **dict.fromkeys(
        ("quark", "hqq", "fp_quant", "fouroversix", "nvfp4", "metal", "gemma"),
        Method(Choice.UNCHECKED),
    ),
}
