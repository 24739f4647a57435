"""A patch embedding is loaded for the check once, as its shards hold it, and without a copy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from conv2linear.checkpoint.checkpoint import Checkpoint, open_checkpoint
from conv2linear.checkpoint.header import TensorInfo
from conv2linear.checkpoint.stored_layer import StoredLayer, read_layer
from conv2linear.equivalence.device import ChosenDevice
from conv2linear.equivalence.load import (
    check_patch_embedding,
    load_bias,
    load_kernel,
    load_tensor,
)
from conv2linear.equivalence.outcome import Equivalence, Step
from conv2linear.operations.convert import convert
from tests.equivalence.kernels import CPU, SHAPE, each_dtype, make_kernel
from tests.support.checkpoints import BIAS, WEIGHT
from tests.support.models import TinyModel
from tests.support.progress import SeenProgress


@pytest.fixture(scope="module")
def source(tiny_model: TinyModel) -> Checkpoint:
    return open_checkpoint(tiny_model())


@pytest.fixture(scope="module")
def linear(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    out = tmp_path_factory.mktemp("linear") / "out"
    convert(tiny_model(), out, device="cpu")
    return open_checkpoint(out)


@pytest.fixture(scope="module")
def tensors(tiny_model: TinyModel) -> dict[str, torch.Tensor]:
    def items() -> Iterator[tuple[str, torch.Tensor]]:
        for shard in tiny_model().glob("*.safetensors"):
            yield from load_file(shard).items()

    return dict(items())


def first_layer(checkpoint: Checkpoint) -> StoredLayer:
    return read_layer(checkpoint, checkpoint.patch_embeddings[0])


@pytest.mark.parametrize("layout", ["source", "linear"])
def test_a_layer_is_loaded_as_the_kernel_and_bias_of_the_checkpoint(
    layout: str, tensors: dict[str, torch.Tensor], request: pytest.FixtureRequest
) -> None:
    layer = first_layer(request.getfixturevalue(layout))
    assert torch.equal(load_kernel(layer), tensors[WEIGHT])
    bias = load_bias(layer)
    assert bias is not None
    assert torch.equal(bias, tensors[BIAS])


def test_a_layer_names_the_hash_of_each_of_its_tensors(
    source: Checkpoint, tensors: dict[str, torch.Tensor]
) -> None:
    content = {
        name: tensors[name].contiguous().view(torch.uint8).numpy().tobytes()
        for name in (WEIGHT, BIAS)
    }
    expected = {name: hashlib.sha256(each).hexdigest() for name, each in content.items()}
    assert first_layer(source).hashes() == expected


def test_loading_a_layer_makes_no_copy_of_its_bytes(source: Checkpoint) -> None:
    layer = first_layer(source)
    assert load_kernel(layer).data_ptr() == load_kernel(layer).data_ptr()
    assert (
        load_kernel(layer).data_ptr() == torch.frombuffer(layer.weight, dtype=torch.int8).data_ptr()
    )


def test_a_layer_names_its_tensor_and_shows_none_of_its_bytes(source: Checkpoint) -> None:
    text = repr(first_layer(source))
    assert WEIGHT in text
    assert len(text) < 1000


def compare(layer: StoredLayer, linear: TensorInfo, source: StoredLayer) -> Equivalence:
    """Check a layer on the CPU, where nothing is to be warned of."""
    progress = SeenProgress()
    outcome = check_patch_embedding(
        layer, linear=linear, source=source, device=ChosenDevice(CPU), progress=progress
    )
    assert progress.warnings == []
    return outcome


def test_a_source_is_the_same_map_with_the_shape_that_its_linear_header_states(
    source: Checkpoint, linear: Checkpoint
) -> None:
    embedding = linear.patch_embeddings[0]
    stated = linear.headers[embedding.shard].tensors[WEIGHT]
    layer = first_layer(source)
    outcome = compare(layer, stated, layer)
    assert outcome.failure is None
    assert outcome.basis_patches == 1176


def test_a_linear_weight_is_held_against_the_kernel_of_its_source(
    source: Checkpoint, linear: Checkpoint
) -> None:
    layer = first_layer(linear)
    stated = linear.headers[layer.embedding.shard].tensors[WEIGHT]
    original = first_layer(source)
    assert compare(layer, stated, original).failure is None
    damaged = replace(original, weight=bytes([original.weight[0] ^ 1]) + original.weight[1:])
    outcome = compare(layer, stated, damaged)
    assert outcome.failed_step == Step.EQUIVALENCE
    assert outcome.failure is not None
    assert outcome.failure.startswith("column 0 of the linear weight is not kernel[:, 0, 0, 0, 0]")


def test_a_header_that_states_another_shape_is_found(source: Checkpoint) -> None:
    layer = first_layer(source)
    stated = source.headers[layer.embedding.shard].tensors[WEIGHT]  # still the kernel's shape
    outcome = compare(layer, stated, layer)
    assert outcome.failed_step == Step.EQUIVALENCE
    assert outcome.failure is not None
    assert "expected torch." in outcome.failure


@each_dtype
def test_a_tensor_made_of_bytes_is_the_tensor_they_came_from(dtype: torch.dtype) -> None:
    name = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}[dtype]
    kernel = make_kernel(dtype)
    content = kernel.view(torch.uint8).numpy().tobytes()
    assert torch.equal(load_tensor(content, dtype=name, shape=SHAPE), kernel)
