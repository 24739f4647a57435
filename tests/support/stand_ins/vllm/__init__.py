"""Stand for vLLM: see `tests.support.stand_ins`."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

from stand_in_model import Model, read_weights  # type: ignore[import-not-found]

__version__ = "1.2.3"


class EngineArgs:
    """Has the folder that is to be loaded."""

    def __init__(self, *, model: str, skip_tokenizer_init: bool, enforce_eager: bool) -> None:
        self.model = model

    def create_engine_config(self) -> SimpleNamespace:
        """Return what stands for a config."""
        return SimpleNamespace(model=self.model)


class DefaultModelLoader:
    """Reads the tensors; the plugin looks at their names here."""

    def get_all_weights(self, model_config: Any, model: Any) -> Any:
        """Return the tensors of the folder."""
        return read_weights(model_config.model)


def get_model(*, vllm_config: Any) -> Model:
    """Build the model and load it."""
    from vllm.model_executor.layers.conv import Conv3dLayer

    model = Model(Conv3dLayer, vllm_config.model)
    model.load_weights(DefaultModelLoader().get_all_weights(vllm_config, model))
    return model


def load_general_plugins() -> None:
    """Register the plugin, unless `VLLM_PLUGINS` does not name it."""
    from conv2linear.engines.vllm import register

    allowed = os.environ.get("VLLM_PLUGINS")
    if allowed is None or "conv2linear" in allowed.split(","):
        register()


def _module(name: str, **members: object) -> None:
    module = sys.modules[f"vllm.{name}"] = ModuleType(f"vllm.{name}")
    vars(module).update(members)


def _nothing(*arguments: object) -> None:
    """Begin nothing: there is one process."""


_module("config", set_current_vllm_config=nullcontext)
_module(
    "distributed.parallel_state",
    init_distributed_environment=_nothing,
    ensure_model_parallel_initialized=_nothing,
)
_module("engine.arg_utils", EngineArgs=EngineArgs)
_module("model_executor.model_loader", get_model=get_model)
_module("model_executor.model_loader.default_loader", DefaultModelLoader=DefaultModelLoader)
_module("platforms", current_platform=SimpleNamespace(dist_backend="gloo"))
_module("plugins", load_general_plugins=load_general_plugins)
