"""The engine plugins, on torch's own Conv3d everywhere and on an engine's Conv3dLayer where it is.

`scripts/check_engine` runs this file in an environment with the engine.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from conv2linear.engines.linear_weight import accept_linear_weight, patch_constructor
from conv2linear.errors import BadCheckpointError
from tests.engines.layers import (
    ENGINES,
    KERNEL,
    KERNEL_SHAPE,
    LINEAR_SHAPE,
    LOGGER,
    Build,
    Layer,
    Size,
    hook_no_loader,
    needs,
    plain_conv3d,
    vllm_conv3d,
)


@pytest.fixture(params=[pytest.param(plain_conv3d, id="torch"), *ENGINES])
def build(request: pytest.FixtureRequest) -> Build:
    """Give a function that builds a layer of the patched class."""
    conv3d_layer, context = request.param()

    def build_layer(*, kernel_size: Size = KERNEL, stride: Size = KERNEL, **options: Any) -> Layer:
        with context:
            return conv3d_layer(3, 8, kernel_size=kernel_size, stride=stride, **options)

    return build_layer


@pytest.fixture
def log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """Give caplog, which hears vLLM's lines, too: its logger may pass none on to the root."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    return caplog


def test_a_linear_weight_loads_as_the_kernel_it_came_from(build: Build) -> None:
    layer = build()
    kernel = torch.randn(KERNEL_SHAPE)

    layer.weight.weight_loader(layer.weight, kernel.reshape(LINEAR_SHAPE))

    assert list(layer.weight.shape) == KERNEL_SHAPE
    assert torch.equal(layer.weight, kernel)


def test_a_linear_weight_gives_the_output_of_torchs_conv3d(build: Build) -> None:
    layer = build().float()
    reference = nn.Conv3d(3, 8, kernel_size=KERNEL, stride=KERNEL)
    layer.weight.weight_loader(layer.weight, reference.weight.detach().reshape(LINEAR_SHAPE))
    layer.bias.data.copy_(reference.bias)
    patches = torch.randn(4, 3, *KERNEL)

    torch.testing.assert_close(layer(patches), reference(patches))


def test_a_kernel_loads_unchanged(build: Build) -> None:
    layer = build()
    kernel = torch.randn(KERNEL_SHAPE)

    layer.weight.weight_loader(layer.weight, kernel)

    assert torch.equal(layer.weight, kernel)


@pytest.mark.parametrize(
    "shape",
    [
        LINEAR_SHAPE[::-1],
        [4, 2 * LINEAR_SHAPE[1]],
        [LINEAR_SHAPE[0] * LINEAR_SHAPE[1]],
        [8, 2, 3, 14, 14],
        [8, 1, LINEAR_SHAPE[1]],
        [8, LINEAR_SHAPE[1] - 1],
    ],
    ids=["transposed", "regrouped", "flat", "swapped axes", "three axes", "one column short"],
)
def test_a_weight_of_another_shape_is_refused_and_leaves_the_layer_as_it_was(
    build: Build, shape: list[int]
) -> None:
    layer = build()
    before = layer.weight.detach().clone()

    with pytest.raises(BadCheckpointError, match="patch embedding weight: expected shape"):
        layer.weight.weight_loader(layer.weight, torch.randn(shape))

    assert torch.equal(layer.weight.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize(
    "options",
    [{"stride": (1, 14, 14)}, {"padding": (0, 1, 1)}, {"dilation": (1, 2, 2)}],
    ids=["overlapping", "padded", "dilated"],
)
def test_a_convolution_that_is_not_a_linear_map_of_patches_keeps_its_loader(
    build: Build, options: dict[str, Size]
) -> None:
    assert not hasattr(build(**options).weight, "weight_loader")


def test_the_bias_and_other_layers_keep_their_loaders(build: Build) -> None:
    assert not hasattr(build().bias, "weight_loader")
    assert not hasattr(nn.Conv3d(3, 8, KERNEL, KERNEL).weight, "weight_loader")


def test_a_loader_that_was_there_before_gets_the_kernel() -> None:
    seen: list[torch.Tensor] = []

    class Conv3dLayer(nn.Conv3d):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            weight: Layer = self.weight
            weight.weight_loader = lambda _, loaded: seen.append(loaded)

    patch_constructor(Conv3dLayer, LOGGER, hook_no_loader)
    layer: Layer = Conv3dLayer(3, 8, KERNEL, KERNEL)
    layer.weight.weight_loader(layer.weight, torch.zeros(LINEAR_SHAPE))

    assert [list(weight.shape) for weight in seen] == [KERNEL_SHAPE]


def test_patching_twice_wraps_the_constructor_once() -> None:
    class Conv3dLayer(nn.Conv3d):
        pass

    patch_constructor(Conv3dLayer, LOGGER, hook_no_loader)
    once = Conv3dLayer.__init__
    patch_constructor(Conv3dLayer, LOGGER, hook_no_loader)

    assert Conv3dLayer.__init__ is once


def test_a_layer_that_is_hooked_in_two_ways_keeps_one_loader() -> None:
    layer = plain_conv3d()[0](3, 8, KERNEL, KERNEL)
    once = layer.weight.weight_loader

    assert accept_linear_weight(layer, LOGGER)
    assert layer.weight.weight_loader is once


def test_one_log_line_says_that_a_linear_weight_was_loaded(
    build: Build, log: pytest.LogCaptureFixture
) -> None:
    layer = build()

    layer.weight.weight_loader(layer.weight, torch.zeros(KERNEL_SHAPE))
    assert not log.messages
    layer.weight.weight_loader(layer.weight, torch.zeros(LINEAR_SHAPE))

    assert log.messages == [
        f"conv2linear: linear patch embedding weight {LINEAR_SHAPE} "
        f"loaded as Conv3d kernel {KERNEL_SHAPE}"
    ]


@pytest.mark.parametrize("module", ["vllm", "sglang", "detection"])
def test_importing_a_plugin_imports_neither_torch_nor_an_engine_nor_the_command_line(
    module: str,
) -> None:
    heavy = {"torch", "vllm", "sglang", "transformers", "typer", "rich", "huggingface_hub"}
    code = f"import sys, conv2linear.engines.{module}; print(sorted({heavy!r} & set(sys.modules)))"
    # PYTHONPATH may hold a sitecustomize that imports torch by itself.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.engine
@needs("vllm")
def test_vllm_registration_is_idempotent() -> None:
    once = vllm_conv3d()[0].__init__
    assert vllm_conv3d()[0].__init__ is once


@pytest.mark.engine
@needs("vllm")
def test_vllm_without_its_conv3d_layer_logs_an_error_that_names_the_version(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    import vllm

    from conv2linear.engines.vllm import register

    name = "vllm.model_executor.layers.conv"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    register()

    [record] = log.records
    assert record.levelno == logging.ERROR
    assert f"vLLM {vllm.__version__} does not have the Conv3dLayer" in record.getMessage()


@pytest.mark.engine
@needs("vllm")
def test_vllm_loads_the_plugin_beside_another_that_replaces_the_layer() -> None:
    conv3d_layer, context = vllm_conv3d()
    custom_op = importlib.import_module("vllm.model_executor.custom_op")

    other_conv3d = type("OtherConv3d", (conv3d_layer,), {})

    custom_op.op_registry_oot["Conv3dLayer"] = other_conv3d
    try:
        with context:
            layer: Layer = conv3d_layer(3, 8, kernel_size=KERNEL, stride=KERNEL)
    finally:
        del custom_op.op_registry_oot["Conv3dLayer"]

    made: type = type(layer)
    assert made is other_conv3d
    kernel = torch.randn(KERNEL_SHAPE)
    layer.weight.weight_loader(layer.weight, kernel.reshape(LINEAR_SHAPE))
    assert torch.equal(layer.weight, kernel)
