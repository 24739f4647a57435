"""What the plugins refuse: weights that an engine would copy into the layer without their scale."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from conv2linear.engines.quantized_weight import refuse_scales
from conv2linear.errors import BadCheckpointError
from tests.engines.layers import (
    ENGINES,
    KERNEL,
    KERNEL_SHAPE,
    LINEAR_SHAPE,
    Layer,
    needs,
    plain_conv3d,
    sglang_conv3d,
    vllm_conv3d,
)

# Every dtype of one byte that this torch has, and the integers that packed weights come in.
QUANTIZED = [
    *(dtype for name, dtype in sorted(vars(torch).items()) if name.startswith("float8_")),
    torch.int8,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.bool,
]
PREFIXES = ["model.visual.patch_embed.proj", "visual.patch_embed.proj", "patch_embed.proj"]
SCALES = [
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "weight_zero_point",
    "weight_packed",
    "weight.absmax",
    "weight.quant_map",
    "weight.quant_state.bitsandbytes__nf4",
    "SCB",
    "input_scale",
    "qweight",
    "scales",
]


@pytest.fixture(params=[pytest.param(plain_conv3d, id="torch"), *ENGINES])
def layer(request: pytest.FixtureRequest) -> Layer:
    conv3d_layer, context = request.param()
    with context:
        return conv3d_layer(3, 8, kernel_size=KERNEL, stride=KERNEL)


def model_of(layer: Layer) -> nn.Module:
    """Put a layer where the models of the engines have it, beside one that is a plain Linear."""
    visual = nn.Module()
    visual.patch_embed = nn.ModuleDict({"proj": layer})
    visual.merger = nn.ModuleDict({"proj": nn.Linear(2, 2)})
    model = nn.Module()
    model.visual = visual
    return model


@pytest.mark.parametrize("shape", [LINEAR_SHAPE, KERNEL_SHAPE], ids=["linear", "conv3d"])
@pytest.mark.parametrize("dtype", QUANTIZED, ids=str)
def test_quantised_bytes_are_refused_and_leave_the_layer_as_it_was(
    layer: Layer, dtype: torch.dtype, shape: list[int]
) -> None:
    before = layer.weight.detach().clone()
    quantized = torch.ones(shape, dtype=torch.uint8).to(dtype)

    with pytest.raises(BadCheckpointError) as refusal:
        layer.weight.weight_loader(layer.weight, quantized)

    name = str(dtype).removeprefix("torch.")
    assert f"expected bfloat16, float16 or float32, found {name} {shape}" in str(refusal.value)
    assert "leave the patch embedding out of the quantisation" in str(refusal.value)
    assert torch.equal(layer.weight.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_numbers_of_every_width_load(layer: Layer, dtype: torch.dtype) -> None:
    weight = torch.ones(LINEAR_SHAPE, dtype=dtype)

    layer.weight.weight_loader(layer.weight, weight)

    assert torch.equal(layer.weight, torch.ones_like(layer.weight))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_beside_the_weight_is_refused_before_it_is_passed_on(
    layer: Layer, prefix: str, scale: str
) -> None:
    name = f"{prefix}.{scale}"
    weights = [(f"{prefix}.weight", torch.ones(1)), (name, torch.ones(1))]
    passed_on: list[str] = []

    with pytest.raises(BadCheckpointError, match=f"found {name} too"):
        passed_on.extend(name for name, _ in refuse_scales(weights, model_of(layer)))

    assert passed_on == [f"{prefix}.weight"]


def test_weights_and_biases_and_the_scales_of_other_layers_pass(layer: Layer) -> None:
    names = [
        *(f"{prefix}.{part}" for prefix in PREFIXES for part in ("weight", "bias")),
        "model.visual.merger.proj.weight_scale",
        "model.visual.other_patch_embed.proj.weight_scale",
        "model.visual.blocks.0.attn.proj.weight_scale",
        "model.visual.patch_embed.projection.weight_scale",
    ]
    weights = [(name, torch.ones(1)) for name in names]

    assert list(refuse_scales(weights, model_of(layer))) == weights


def test_a_model_without_such_a_layer_loads_whatever_it_has() -> None:
    weights = [(f"{PREFIXES[0]}.weight_scale", torch.ones(1))]

    assert list(refuse_scales(weights, model_of(nn.Conv3d(3, 8, KERNEL, KERNEL)))) == weights


@pytest.mark.engine
@needs("vllm")
def test_vllms_loader_refuses_a_scale_and_gives_all_else_unchanged() -> None:
    loader = importlib.import_module("vllm.model_executor.model_loader.default_loader")
    load = importlib.import_module("vllm.config.load")
    conv3d_layer, context = vllm_conv3d()
    with context:
        model = model_of(conv3d_layer(3, 8, kernel_size=KERNEL, stride=KERNEL))
    weights = [(f"{PREFIXES[0]}.weight", torch.ones(1)), ("lm_head.weight_scale", torch.ones(1))]

    class Loader(loader.DefaultModelLoader):  # type: ignore[name-defined, misc]
        def _get_weights_iterator(self, source: Any) -> Iterator[tuple[str, torch.Tensor]]:
            return iter(weights)

    config = type("ModelConfig", (), {"model": "none", "revision": None, "model_weights": ""})()
    made = Loader(load.LoadConfig())
    assert list(made.get_all_weights(config, model)) == weights
    weights.append((f"{PREFIXES[0]}.weight_scale", torch.ones(1)))
    with pytest.raises(BadCheckpointError, match="weight_scale too"):
        list(made.get_all_weights(config, model))


@pytest.mark.engine
@needs("sglang")
def test_sglangs_loader_refuses_a_scale_and_gives_all_else_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = importlib.import_module("sglang.srt.model_loader.loader").DefaultModelLoader
    conv3d_layer, _ = sglang_conv3d()
    model = model_of(conv3d_layer(3, 8, kernel_size=KERNEL, stride=KERNEL))
    weights = [(f"{PREFIXES[0]}.weight", torch.ones(1)), ("lm_head.weight_scale", torch.ones(1))]
    loaded: list[tuple[str, torch.Tensor]] = []
    monkeypatch.setattr(model, "load_weights", loaded.extend, raising=False)
    cpu = torch.device("cpu")

    loader.load_weights_and_postprocess(model, iter(weights), cpu)
    assert loaded == weights
    weights.append((f"{PREFIXES[0]}.weight_scale", torch.ones(1)))
    with pytest.raises(BadCheckpointError, match="weight_scale too"):
        loader.load_weights_and_postprocess(model, iter(weights), cpu)
