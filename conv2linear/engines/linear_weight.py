"""The one change that an engine needs: a Conv3d layer whose weight also loads as a linear one."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

from conv2linear.engines.quantized_weight import ACCEPTING_LAYER, refuse_quantized_bytes
from conv2linear.errors import BadCheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def patch_constructor(
    conv3d_layer: type, logger: logging.Logger, hook_loader: Callable[[], None]
) -> None:
    """Make every new instance of an engine's Conv3d layer class accept a linear weight.

    `hook_loader` is called for each instance that does, before any weight is loaded into it.
    """
    construct: Any = conv3d_layer.__init__  # type: ignore[misc]
    if hasattr(construct, "accepts_linear_weight"):
        return

    @functools.wraps(construct)
    def construct_and_accept(self: Any, *args: Any, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        if accept_linear_weight(self, logger):
            hook_loader()

    construct_and_accept.accepts_linear_weight = True  # type: ignore[attr-defined]
    conv3d_layer.__init__ = construct_and_accept  # type: ignore[misc]


def accept_linear_weight(layer: Any, logger: logging.Logger) -> bool:
    """Let the weight `[O, C, T, P, P]` of a Conv3d layer also load as `[O, C·T·P·P]`.

    The parameter keeps its five dimensions; quantised bytes are refused in either shape. A layer
    that is not a linear map of whole patches keeps its loader. Tells whether the layer accepts.
    """
    if getattr(layer, ACCEPTING_LAYER, False):
        return True  # SGLang's hook and the changed constructor may both be there
    if not _maps_whole_patches(layer):
        return False
    weight = layer.weight
    kernel_shape = tuple(weight.shape)
    linear_shape = (kernel_shape[0], prod(kernel_shape[1:]))
    load_kernel = getattr(weight, "weight_loader", _load_kernel)

    # A plain function with just these parameter names: vLLM reads both when it reloads weights.
    def load_kernel_or_linear(param: Tensor, loaded_weight: Tensor) -> None:
        refuse_quantized_bytes(loaded_weight)
        if tuple(loaded_weight.shape) == linear_shape:
            loaded_weight = loaded_weight.reshape(kernel_shape)
            logger.info(
                "conv2linear: linear patch embedding weight %s loaded as Conv3d kernel %s",
                list(linear_shape),
                list(kernel_shape),
            )
        load_kernel(param, loaded_weight)

    weight.weight_loader = load_kernel_or_linear
    setattr(layer, ACCEPTING_LAYER, True)
    return True


def _maps_whole_patches(layer: Any) -> bool:
    """Tell whether the kernel meets every value of its input exactly once."""
    return (
        tuple(layer.kernel_size) == tuple(layer.stride)
        and tuple(layer.padding) == (0, 0, 0)
        and tuple(layer.dilation) == (1, 1, 1)
        and layer.groups == 1
    )


def _load_kernel(param: Tensor, loaded_weight: Tensor) -> None:
    """Copy a weight of the parameter's own shape, as the engines' default loaders do."""
    if param.shape != loaded_weight.shape:
        raise BadCheckpointError(
            f"patch embedding weight: expected shape {list(param.shape)} or its linear form "
            f"{[param.shape[0], prod(param.shape[1:])]}, found {list(loaded_weight.shape)}"
        )
    param.data.copy_(loaded_weight)
