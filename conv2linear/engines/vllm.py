"""vLLM plugin, entry-point group `vllm.general_plugins`: linear patch embeddings load."""

from __future__ import annotations

import functools
import logging
from typing import Any

from conv2linear.engines.linear_weight import patch_constructor
from conv2linear.engines.quantized_weight import refuse_scales

# vLLM configures the handlers of its own logger only, so the line must come from below it.
_logger = logging.getLogger("vllm.conv2linear")


def register() -> None:
    """Make vLLM's `Conv3dLayer` load a linear patch embedding; log an error if it is not there."""
    try:
        from vllm.model_executor.layers.conv import Conv3dLayer
    except ImportError as error:
        from vllm import __version__

        _logger.error(
            "conv2linear: vLLM %s does not have the Conv3dLayer that this plugin hooks (%s); "
            "a linear checkpoint will not load, an original one will",
            __version__,
            error,
        )
        return
    patch_constructor(Conv3dLayer, _logger, _hook_loader)
    _logger.debug("conv2linear: Conv3dLayer accepts linear patch embedding weights")


@functools.cache
def _hook_loader() -> None:
    """Look at the names of all tensors that vLLM's default loader loads, also when it reloads."""
    try:
        from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

        get_all_weights = DefaultModelLoader.get_all_weights
    except (ImportError, AttributeError) as error:
        _logger.warning("conv2linear: scales beside a patch embedding go unnoticed: %s", error)
        return

    @functools.wraps(get_all_weights)
    def get_checked_weights(self: Any, model_config: Any, model: Any) -> Any:
        return refuse_scales(get_all_weights(self, model_config, model), model)

    DefaultModelLoader.get_all_weights = get_checked_weights
