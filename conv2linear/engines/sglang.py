"""SGLang plugin, entry-point group `sglang.srt.plugins`: linear patch embeddings load.

Some of SGLang's processes load weights and no plugins: the followers and the workers of an encoder
server, and the weight-cache daemon. A process that does load plugins starts them, and they have
its environment, in which the plugin names a package that every process imports that builds a model.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from conv2linear.engines.linear_weight import accept_linear_weight, patch_constructor
from conv2linear.engines.quantized_weight import refuse_scales

_logger = logging.getLogger(__name__)
_CONSTRUCTOR = "sglang.srt.layers.conv.Conv3dLayer.__init__"
MODEL_PACKAGE_VARIABLE = "SGLANG_EXTERNAL_MODEL_PACKAGE"
MODEL_PACKAGE = "conv2linear.engines.sglang_models"


def register() -> None:
    """Register a hook on SGLang's `Conv3dLayer`; log an error if the layer is not there.

    Processes that this one starts get the model package, unless they have another one.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if _conv3d_layer() is None:
        return
    HookRegistry.register(_CONSTRUCTOR, _accept, HookType.AFTER)
    if not os.environ.get(MODEL_PACKAGE_VARIABLE):
        os.environ[MODEL_PACKAGE_VARIABLE] = MODEL_PACKAGE


def patch() -> None:
    """Change SGLang's `Conv3dLayer` directly, for processes that load no plugins."""
    conv3d_layer = _conv3d_layer()
    if conv3d_layer is not None:
        patch_constructor(conv3d_layer, _logger, _hook_loader)


def _accept(result: None, layer: Any, *args: Any, **kwargs: Any) -> None:
    if accept_linear_weight(layer, _logger):
        _hook_loader()


def _conv3d_layer() -> type | None:
    try:
        from sglang.srt.layers.conv import Conv3dLayer
    except ImportError as error:
        from sglang import __version__

        _logger.error(
            "conv2linear: SGLang %s does not have the Conv3dLayer that this plugin hooks (%s); "
            "a linear checkpoint will not load, an original one will",
            __version__,
            error,
        )
        return None
    return Conv3dLayer  # type: ignore[no-any-return]


@functools.cache
def _hook_loader() -> None:
    """Look at the names of all tensors that SGLang's default loader loads, also when it updates.

    The loader imports the model registry, which imports `sglang_models`: its own module cannot be
    imported before a model is built.
    """
    try:
        from sglang.srt.model_loader.loader import DefaultModelLoader

        load_weights = DefaultModelLoader.load_weights_and_postprocess
    except (ImportError, AttributeError) as error:
        _logger.warning("conv2linear: scales beside a patch embedding go unnoticed: %s", error)
        return

    @functools.wraps(load_weights)
    def load_checked_weights(model: Any, weights: Any, target_device: Any) -> None:
        load_weights(model, refuse_scales(weights, model), target_device)

    DefaultModelLoader.load_weights_and_postprocess = staticmethod(load_checked_weights)
