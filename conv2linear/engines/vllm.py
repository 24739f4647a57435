"""vLLM plugin, entry-point group `vllm.general_plugins`: linear patch embeddings load."""

from __future__ import annotations

import logging

from conv2linear.engines.linear_weight import patch_constructor

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
    patch_constructor(Conv3dLayer, _logger)
    _logger.debug("conv2linear: Conv3dLayer accepts linear patch embedding weights")
