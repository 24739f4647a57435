"""Check that each layer of an adapter is the same map in both layouts of its base.

A LoRA's `lora_A` is a Conv3d of the kernel of the patch embedding, and its `lora_B` one of 1×1×1:
each is compared with its linear layer as a patch embedding is.
"""

from __future__ import annotations

from collections.abc import Mapping

from conv2linear.checkpoint.adapter.adapter import ADAPTER_WEIGHTS_NAME
from conv2linear.checkpoint.adapter.layer import AdapterPart, LayerTensor
from conv2linear.checkpoint.adapter.peft_adapter import Adapter
from conv2linear.checkpoint.header import TensorInfo
from conv2linear.checkpoint.model_types import Geometry
from conv2linear.checkpoint.patch_embedding import PatchEmbedding
from conv2linear.checkpoint.stored_layer import StoredLayer
from conv2linear.equivalence.loading_torch import loading_torch
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.errors import CheckFailedError
from conv2linear.progress import Progress

_BIASES = {AdapterPart.LORA_B: AdapterPart.LORA_B_BIAS, AdapterPart.WEIGHT: AdapterPart.BIAS}


def compare_maps(
    adapter: Adapter,
    *,
    linear: Mapping[str, TensorInfo],
    originals: Mapping[str, StoredLayer],
    device: str,
    progress: Progress,
) -> dict[str, Equivalence]:
    """Run the equivalence check on each weight of an adapter, and return the outcomes by name.

    `linear` says what the header of the linear adapter has for a tensor; `originals` are the same
    layers in the Conv3d layout, which are compared with; one that is not there is compared with
    nothing. Raises `DeviceError`.
    """
    with loading_torch(progress):
        from conv2linear.equivalence.device import choose_device
        from conv2linear.equivalence.load import check_patch_embedding

    chosen = choose_device(device, warn=progress.warn)
    outcomes = {}
    for tensor in adapter.tensors:
        if tensor.is_map:
            original = originals.get(tensor.name)
            geometry = original.embedding.geometry if original else tensor.geometry
            outcomes[tensor.name] = check_patch_embedding(
                read_layer(adapter, tensor, geometry),
                linear=linear[tensor.name],
                source=original,
                device=chosen,
                progress=progress,
            )
    return outcomes


def read_layer(adapter: Adapter, tensor: LayerTensor, geometry: Geometry) -> StoredLayer:
    """Read the bytes of one layer of an adapter: a weight, as a kernel of these sizes, and bias."""
    bias = _find_bias(adapter, tensor)
    embedding = PatchEmbedding(
        name=tensor.name,
        shard=ADAPTER_WEIGHTS_NAME,
        dtype=tensor.info.dtype,
        shape=tensor.info.shape,
        geometry=geometry,
        bias=bias,
        bias_shard=ADAPTER_WEIGHTS_NAME if bias else None,
    )
    content = adapter.read_tensor(tensor.name)
    return StoredLayer(embedding, content, adapter.read_tensor(bias) if bias else None)


def refuse_not_finite(adapter: Adapter) -> None:
    """Raise `CheckFailedError` where a vector that is no layer's own bias is not finite."""
    from conv2linear.equivalence.load import load_tensor  # loads torch

    for tensor in adapter.tensors:
        if not tensor.is_map:
            content = adapter.read_tensor(tensor.name)
            values = load_tensor(content, dtype=tensor.info.dtype, shape=tensor.info.shape)
            if not values.isfinite().all():
                raise CheckFailedError(f"{tensor.name} has a value that is not finite")


def _find_bias(adapter: Adapter, weight: LayerTensor) -> str | None:
    for tensor in adapter.tensors:
        is_of_layer = tensor.module == weight.module and tensor.info.dtype == weight.info.dtype
        if is_of_layer and tensor.part is _BIASES.get(weight.part):
            return tensor.name
    return None
