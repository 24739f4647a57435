"""Conv3d layers with a plugin applied: of torch everywhere, of an engine where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from torch import nn

from conv2linear.engines.linear_weight import patch_constructor

Size = tuple[int, int, int]
KERNEL: Size = (2, 14, 14)
KERNEL_SHAPE = [8, 3, *KERNEL]
LINEAR_SHAPE = [8, 3 * 2 * 14 * 14]
LOGGER = logging.getLogger("test-engine-plugins")
Layer = Any  # a Conv3d with what an engine adds to it
Build = Callable[..., Layer]
Engine = tuple[Any, AbstractContextManager[Any]]  # a layer class, and what building a layer needs


def hook_no_loader() -> None:
    """Stand for the hook of an engine's loader, where there is no engine."""


def plain_conv3d() -> Engine:
    """Return a new subclass of torch's Conv3d with the plugin's constructor."""

    class Conv3dLayer(nn.Conv3d):
        pass

    patch_constructor(Conv3dLayer, LOGGER, hook_no_loader)
    return Conv3dLayer, nullcontext()


def vllm_conv3d() -> Engine:
    """Return vLLM's Conv3dLayer after the plugin's registration, and the context that it needs."""
    conv = importlib.import_module("vllm.model_executor.layers.conv")
    config = importlib.import_module("vllm.config")
    from conv2linear.engines.vllm import register

    register()
    return conv.Conv3dLayer, config.set_current_vllm_config(config.VllmConfig())


def sglang_conv3d() -> Engine:
    """Return SGLang's Conv3dLayer after its registry has applied the plugin's hook."""
    conv = importlib.import_module("sglang.srt.layers.conv")
    from sglang.srt.plugins.hook_registry import HookRegistry

    from conv2linear.engines.sglang import register

    register()
    HookRegistry.apply_hooks()
    return conv.Conv3dLayer, nullcontext()


def needs(engine: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(engine) is None
    return pytest.mark.skipif(missing, reason=f"{engine} is not installed in this environment")


ENGINES = [
    pytest.param(vllm_conv3d, marks=[pytest.mark.engine, needs("vllm")], id="vllm"),
    pytest.param(sglang_conv3d, marks=[pytest.mark.engine, needs("sglang")], id="sglang"),
]
