"""Keep quantised bytes out of a patch embedding: an engine would cast them without their scale.

The layer's parameter is not quantised in any engine. An 8-bit weight copied into it, or a weight
whose scale the engine skips, gives a model that starts, answers, and does not see the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from conv2linear.errors import BadCheckpointError

if TYPE_CHECKING:
    from torch import Tensor

ACCEPTING_LAYER = "accepts_linear_weight"  # attribute of the layers that the plugin has changed
# An engine's log shows the message of an error and no hint, so the message says what to do.
_REMEDY = "leave the patch embedding out of the quantisation and convert that checkpoint"


def refuse_quantized_bytes(loaded_weight: Tensor) -> None:
    """Raise `BadCheckpointError` unless a tensor holds numbers that may be copied as they are."""
    dtype = loaded_weight.dtype
    if dtype.is_floating_point and dtype.itemsize >= 2:
        return
    raise BadCheckpointError(
        "patch embedding weight: expected bfloat16, float16 or float32, found "
        f"{str(dtype).removeprefix('torch.')} {list(loaded_weight.shape)}, which is quantised and "
        f"of no use without its scale; {_REMEDY}"
    )


def refuse_scales(
    weights: Iterable[tuple[str, Tensor]], model: Any
) -> Iterator[tuple[str, Tensor]]:
    """Pass on the named tensors of a checkpoint that an engine is about to load into `model`.

    Raises `BadCheckpointError` at a tensor that belongs to a layer which accepts a linear weight,
    and is neither its weight nor its bias: a scale, a zero point, packed values.
    """
    beside = _name_beside_weight(model)
    for name, tensor in weights:
        if beside is not None and beside.search(name):
            raise BadCheckpointError(
                f"patch embedding: expected a weight and a bias, found {name} too, so its weight "
                f"is quantised; {_REMEDY}"
            )
        yield name, tensor


def _name_beside_weight(model: Any) -> re.Pattern[str] | None:
    """Match the names of what lies beside the weights that load as linear ones.

    An engine's names begin otherwise than the checkpoint's, so the last two parts are compared.
    """
    layers = {
        ".".join(name.split(".")[-2:])
        for name, module in model.named_modules()
        if getattr(module, ACCEPTING_LAYER, False)
    }
    if not layers:
        return None
    names = "|".join(map(re.escape, sorted(layers)))
    return re.compile(rf"(?:^|\.)(?:{names})\.(?!(?:weight|bias)$)")
