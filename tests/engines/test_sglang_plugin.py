"""SGLang's plugin, and how the processes that load no plugins get it.

`scripts/check_engine` runs this file in an environment with SGLang.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from conv2linear.engines import sglang as plugin
from conv2linear.engines.sglang import MODEL_PACKAGE, MODEL_PACKAGE_VARIABLE, register
from tests.engines.layers import KERNEL, KERNEL_SHAPE, LINEAR_SHAPE, needs, sglang_conv3d


@pytest.mark.engine
@needs("sglang")
def test_sglang_takes_a_second_registration_and_the_model_package_beside_the_plugin() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry

    conv3d_layer, _ = sglang_conv3d()
    register()
    HookRegistry.apply_hooks()
    importlib.import_module("conv2linear.engines.sglang_models")

    layer = conv3d_layer(3, 8, kernel_size=KERNEL, stride=KERNEL)
    kernel = torch.randn(KERNEL_SHAPE)
    layer.weight.weight_loader(layer.weight, kernel.reshape(LINEAR_SHAPE))
    assert torch.equal(layer.weight, kernel)


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, MODEL_PACKAGE), ("", MODEL_PACKAGE), ("a.package.of.theirs", "a.package.of.theirs")],
)
def test_processes_that_load_no_plugins_get_the_model_package_from_the_one_that_starts_them(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    """Stands for SGLang with two modules; real ones are started by `scripts/check_engine`."""
    registry, conv = ModuleType("hook_registry"), ModuleType("conv")
    vars(registry).update(
        HookRegistry=SimpleNamespace(register=lambda *_: None),
        HookType=SimpleNamespace(AFTER="after"),
    )
    vars(conv).update(Conv3dLayer=nn.Conv3d)
    for name in ("sglang", "sglang.srt", "sglang.srt.layers", "sglang.srt.plugins"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "sglang.srt.plugins.hook_registry", registry)
    monkeypatch.setitem(sys.modules, "sglang.srt.layers.conv", conv)
    monkeypatch.setenv(MODEL_PACKAGE_VARIABLE, before or "")
    if before is None:
        monkeypatch.delenv(MODEL_PACKAGE_VARIABLE)

    register()

    assert os.environ[MODEL_PACKAGE_VARIABLE] == after


@pytest.mark.engine
@needs("sglang")
@pytest.mark.parametrize("way", ["register", "patch"])
def test_sglang_without_its_conv3d_layer_logs_an_error_that_names_the_version(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    import sglang

    name = "sglang.srt.layers.conv"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    getattr(plugin, way)()

    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert f"SGLang {sglang.__version__} does not have the Conv3dLayer" in record.getMessage()
