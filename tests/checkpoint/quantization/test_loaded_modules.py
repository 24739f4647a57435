"""The modules that are read from headers are those that transformers builds."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from conv2linear.checkpoint.checkpoint import open_checkpoint
from conv2linear.checkpoint.config import enable_fusion
from conv2linear.checkpoint.model_types import LINEAR_MODULE, MODEL_TYPES
from conv2linear.checkpoint.quantization.loaded_modules import (
    Kind,
    find_linear_projections,
    read_modules,
)
from tests.support.models import GLM_TYPES, OTHER_TYPES, TinyModel


@pytest.mark.parametrize("model_type", [*GLM_TYPES, *OTHER_TYPES])
def test_modules_have_the_names_and_kinds_of_the_loaded_model(
    tiny_model: TinyModel, model_type: str
) -> None:
    folder = tiny_model(model_type)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    modules = dict(model.named_modules())
    expected = {name: Kind.LINEAR for name, m in modules.items() if type(m) is nn.Linear}
    expected |= {name: Kind.EMBEDDING for name, m in modules.items() if type(m) is nn.Embedding}
    expected |= {name: Kind.EXPERTS for name in modules if name.endswith(".experts")}
    for name in model.all_tied_weights_keys:  # is not stored
        expected.pop(name.removesuffix(".weight"), None)
    checkpoint = open_checkpoint(folder)
    found = read_modules(checkpoint.config, checkpoint.headers)
    assert {module.name: module.kind for module in found} == expected
    assert not any(module.is_quantized for module in found)
    layer = MODEL_TYPES[model_type].linear_module
    assert find_linear_projections(checkpoint.config, checkpoint.headers) == (layer,)


def test_a_linear_patch_embedding_is_a_linear_layer_where_fusion_is_on(
    tiny_model: TinyModel,
) -> None:
    checkpoint = open_checkpoint(tiny_model())
    header = checkpoint.headers[checkpoint.patch_embeddings[0].shard]
    name = checkpoint.patch_embeddings[0].name
    info = header.tensors[name]._replace(shape=(128, 1176))
    headers = {"shard": type(header)(header.text, {**header.tensors, name: info})}
    fused = read_modules(enable_fusion(checkpoint.config), headers)
    assert LINEAR_MODULE in {module.name for module in fused if module.kind is Kind.LINEAR}
    names = {module.name for module in read_modules(checkpoint.config, headers)}
    assert not any("patch_embed" in name for name in names)
