"""Stand for SGLang: see `tests.support.stand_ins`."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from stand_in_model import Model, read_weights  # type: ignore[import-not-found]

__version__ = "1.2.3"


class DefaultModelLoader:
    """Loads the tensors; the plugin looks at their names here."""

    @staticmethod
    def load_weights_and_postprocess(model: Model, weights: Any, target_device: Any) -> None:
        """Load, then change what was loaded."""
        DefaultModelLoader.load_weights_only(model, weights, target_device)
        model.postprocess()

    @staticmethod
    def load_weights_only(model: Model, weights: Any, target_device: Any) -> None:
        """Load the tensors."""
        model.load_weights(weights)


def get_model(*, model_config: Any, load_config: Any, device_config: Any) -> Model:
    """Build the model and load it; a model package is imported before."""
    from sglang.srt.layers.conv import Conv3dLayer

    if package := os.environ.get("SGLANG_EXTERNAL_MODEL_PACKAGE"):
        importlib.import_module(package)
    model = Model(Conv3dLayer, model_config.model_path)
    weights = read_weights(model_config.model_path)
    DefaultModelLoader.load_weights_and_postprocess(model, weights, device_config)
    return model


def load_plugins() -> None:
    """Register the plugin, unless `SGLANG_PLUGINS` names others."""
    from conv2linear.engines.sglang import register

    allowed = os.environ.get("SGLANG_PLUGINS", "")
    if not allowed or "conv2linear" in allowed.split(","):
        register()


class ServerArgs(SimpleNamespace):
    """Has the folder that is to be loaded."""


class ModelConfig:
    """What is to be loaded."""

    @staticmethod
    def from_server_args(arguments: ServerArgs) -> ServerArgs:
        """Return what has the folder."""
        return arguments


def _module(name: str, **members: object) -> None:
    module = sys.modules[f"sglang.srt.{name}"] = ModuleType(f"sglang.srt.{name}")
    vars(module).update(members)


def _nothing(*arguments: object, **options: object) -> SimpleNamespace:
    """Begin nothing: there is one process, on a CPU."""
    return SimpleNamespace(device="cpu", nccl_port=0)


_module("configs.device_config", DeviceConfig=_nothing)
_module("configs.load_config", LoadConfig=_nothing)
_module("configs.model_config", ModelConfig=ModelConfig)
_module(
    "distributed",
    bootstrap=SimpleNamespace(init_parallel_runtime=_nothing, init_layer_runtime=_nothing),
)
_module("layers.moe", initialize_moe_config=_nothing)
_module("layers.quantization.fp8_utils", initialize_fp8_gemm_config=_nothing)
_module("layers.quantization.unquant", initialize_bf16_gemm_config=_nothing)
_module("model_loader", get_model=get_model)
_module("model_loader.loader", DefaultModelLoader=DefaultModelLoader)
_module("runtime_context", SpawnRanks=_nothing, get_device=_nothing, publish=_nothing)
_module("server_args", PortArgs=SimpleNamespace(init_new=_nothing), ServerArgs=ServerArgs)
