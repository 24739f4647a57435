"""Load a checkpoint with the loader of an engine, and read its patch embedding back.

Run as a program in a process of its own, with the name of the engine, the folder of a checkpoint
and the folder of an exchange as arguments. The exchange has `patches.safetensors`, with patches
`[N, K]` by the number of a layer, for those that are to be run. It gets `outcome.json`, and
`layers.safetensors` with weight, bias and output of each layer. Plugins are loaded by the engine
itself, as when it serves.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conv2linear.errors import Conv2LinearError

if TYPE_CHECKING:
    from torch import Tensor

OUTCOME, LAYERS, PATCHES = "outcome.json", "layers.safetensors", "patches.safetensors"
_PATCH_EMBEDDING = "patch_embed"
_PROJECTIONS = ("proj", "linear_proj")
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # torch's words
# What a release of an engine raises that lacks something which is called here.
_OTHER_RELEASE = (ImportError, AttributeError, TypeError)

Load = Callable[[], Any]


@dataclass
class Run:
    """One load: the folders of the checkpoint and of the exchange, and what it needs on its way.

    `kept` has weights as they were loaded, by the name of their layer, where the engine changes
    them afterwards; `context` is what the layers need when they are built and when they run.
    """

    folder: str
    exchange: Path
    kept: dict[str, Tensor] = field(default_factory=dict)
    context: ExitStack = field(default_factory=ExitStack)


def prepare_vllm(run: Run) -> Load:
    """Make vLLM ready to load, and return what loads the model: `get_model` of its own workers."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed.parallel_state import (
        ensure_model_parallel_initialized,
        init_distributed_environment,
    )
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model
    from vllm.platforms import current_platform
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    arguments = EngineArgs(model=run.folder, skip_tokenizer_init=True, enforce_eager=True)
    if not torch.accelerator.is_available():
        # Its loader calls this on a CPU too, where its worker has done away with it.
        torch.accelerator.empty_cache = lambda: None

    def load() -> Any:
        config = arguments.create_engine_config()
        meeting = (run.exchange / "processes").as_uri()
        run.context.enter_context(set_current_vllm_config(config))
        init_distributed_environment(1, 0, meeting, 0, current_platform.dist_backend)
        ensure_model_parallel_initialized(1, 1)
        return get_model(vllm_config=config)

    return load


def prepare_sglang(run: Run) -> Load:
    """Make SGLang ready to load, and return what loads the model: `get_model` of its runner."""
    import torch

    is_on_cpu = not torch.accelerator.is_available()
    if is_on_cpu:
        os.environ.setdefault("SGLANG_USE_CPU_ENGINE", "1")
    from sglang.srt.plugins import load_plugins

    load_plugins()
    from sglang.srt.configs.device_config import DeviceConfig
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.distributed import bootstrap
    from sglang.srt.layers.moe import initialize_moe_config
    from sglang.srt.layers.quantization.fp8_utils import initialize_fp8_gemm_config
    from sglang.srt.layers.quantization.unquant import initialize_bf16_gemm_config
    from sglang.srt.model_loader import get_model
    from sglang.srt.runtime_context import SpawnRanks, get_device, publish
    from sglang.srt.server_args import PortArgs, ServerArgs

    _keep_loaded_weights(run)
    # What a CPU without AMX has; on another device SGLang chooses.
    on_cpu = {"attention_backend": "torch_native", "mm_attention_backend": "sdpa"}
    options = {"device": "cpu", **on_cpu} if is_on_cpu else {}

    def load() -> Any:
        arguments = ServerArgs(
            model_path=run.folder, skip_tokenizer_init=True, disable_cuda_graph=True, **options
        )
        publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=0, gpu_id=0))
        for initialize in (
            initialize_moe_config,
            initialize_fp8_gemm_config,
            initialize_bf16_gemm_config,
        ):
            initialize()
        port = PortArgs.init_new(arguments).nccl_port
        config, device = ModelConfig.from_server_args(arguments), get_device().device
        bootstrap.init_parallel_runtime(server_args=arguments, device=device, dist_port=port)
        bootstrap.init_layer_runtime(model_config=config)
        return get_model(
            model_config=config, load_config=LoadConfig(), device_config=DeviceConfig(device, 0)
        )

    return load


def _keep_loaded_weights(run: Run) -> None:
    """Keep the weights as SGLang has loaded them: on a CPU with AMX it packs them afterwards."""
    from sglang.srt.model_loader.loader import DefaultModelLoader

    load_weights = DefaultModelLoader.load_weights_only

    def load_and_keep(model: Any, *arguments: Any) -> None:
        load_weights(model, *arguments)
        run.kept.update(
            {name: layer.weight.detach().clone() for name, _, layer in find_layers(model)}
        )

    DefaultModelLoader.load_weights_only = staticmethod(load_and_keep)


PREPARE = {"vllm": prepare_vllm, "sglang": prepare_sglang}


def find_layers(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, patch embedding and projection of each patch embedding that an engine built."""
    for name, module in model.named_modules():
        if name.split(".")[-1] != _PATCH_EMBEDDING:
            continue
        for projection in _PROJECTIONS:
            layer = getattr(module, projection, None)
            if getattr(layer, "weight", None) is not None:
                yield name, module, layer


def read_back(
    model: Any, patches: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> tuple[list[str], dict[str, Any]]:
    """Return the class of each layer, and by number and kind its tensors on the CPU."""
    classes, tensors = [], {}
    for number, (name, module, layer) in enumerate(find_layers(model)):
        weight, bias = kept.get(name, layer.weight), getattr(layer, "bias", None)
        classes.append(type(layer).__name__)
        found = {
            "weight": weight,
            "bias": bias,
            "output": _run(module, layer.weight, patches.get(str(number))),
        }
        for kind, tensor in found.items():
            if tensor is not None:
                tensors[f"{number}.{kind}"] = tensor.detach().cpu().contiguous()
    return classes, tensors


def _run(module: Any, weight: Tensor, patches: Tensor | None) -> Tensor | None:
    if patches is None:
        return None
    import torch

    _add_up_in_float32()
    with torch.inference_mode():
        output = module(patches.to(device=weight.device, dtype=weight.dtype))
    return output.reshape(len(patches), -1)  # type: ignore[no-any-return]


def _add_up_in_float32() -> None:
    """Let matrix products have the precision that the bound of their error supposes."""
    from torch.backends import cuda, cudnn

    matmul: Any = cuda.matmul
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False


def load_and_read_back(engine: str, folder: str, exchange: str) -> dict[str, Any]:
    """Load a checkpoint, write its layers to the exchange, and return what came of it.

    `classes` are those of the layers. Where something went wrong there is `error` instead, and
    `is_machine` tells whether it is about the machine, and says nothing about the checkpoint.
    """
    from safetensors.torch import load_file, save_file

    load, run = None, Run(folder, Path(exchange))
    try:
        load = PREPARE[engine](run)
        with run.context:
            model = load()
            patches = load_file(run.exchange / PATCHES)
            classes, tensors = read_back(model, patches, run.kept)
        save_file(tensors, run.exchange / LAYERS)
    except Exception as error:
        is_machine = load is None or is_about_machine(error)
        return {"error": describe(error), "is_machine": is_machine}
    return {"classes": classes}


def describe(error: Exception) -> str:
    """Say on one line what an engine raised."""
    words = " ".join(str(error).split())
    if isinstance(error, Conv2LinearError):
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def is_about_machine(error: Exception) -> bool:
    """Tell whether memory is short, or the engine lacks what is called here: another release."""
    if isinstance(error, MemoryError) or any(each in str(error) for each in _NO_MEMORY):
        return True
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    is_raised_here = trace is not None and trace.tb_frame.f_code.co_filename == __file__
    return is_raised_here and isinstance(error, _OTHER_RELEASE)


def _main(engine: str, folder: str, exchange: str) -> None:
    outcome = load_and_read_back(engine, folder, exchange)
    Path(exchange, OUTCOME).write_text(json.dumps(outcome))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what an engine does at its end takes seconds, and nobody waits for it


if __name__ == "__main__":
    _main(*sys.argv[1:])
