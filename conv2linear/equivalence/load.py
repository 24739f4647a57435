"""Load a patch embedding of a checkpoint for the check: the one place that makes tensors of it.

The bytes are read from the shard once and not copied on the CPU: the kernel and the linear weight
are two views of them, each with the shape that a header states.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from conv2linear.checkpoint.header import TensorInfo
from conv2linear.checkpoint.stored_layer import StoredLayer
from conv2linear.equivalence.check import check_equivalence
from conv2linear.equivalence.device import ChosenDevice, compute_on
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.progress import Progress

_TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def load_tensor(content: bytes, *, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Make a tensor on the CPU that shares the bytes of a shard, and must not be written to.

    `dtype` is BF16, F16 or F32, as a safetensors header names it.
    """
    # torch warns of bytes, because they are not writable, and warnings can be silenced for the
    # whole process only: it gets the same memory as an array, which keeps the bytes alive.
    array = ctypes.POINTER(ctypes.c_char * len(content))
    memory = ctypes.cast(ctypes.c_char_p(content), array).contents
    return torch.frombuffer(memory, dtype=_TORCH_DTYPES[dtype]).reshape(shape)


def load_kernel(layer: StoredLayer) -> Tensor:
    """Return the weight, in whichever layout it is stored, as a kernel `[O, C, T, P, P]`."""
    e = layer.embedding
    return load_tensor(layer.weight, dtype=e.dtype, shape=e.geometry.kernel_shape)


def load_bias(layer: StoredLayer) -> Tensor | None:
    """Return the bias `[O]`, None where there is none."""
    if layer.bias is None:
        return None
    e = layer.embedding
    return load_tensor(layer.bias, dtype=e.dtype, shape=(e.geometry.embed_dim,))


def check_patch_embedding(
    layer: StoredLayer,
    *,
    linear: TensorInfo,
    source: StoredLayer | None,
    device: ChosenDevice,
    progress: Progress,
) -> Equivalence:
    """Compare a patch embedding as a linear layer with the Conv3d that it stands for.

    `linear` is what the header of the linear checkpoint says of the weight: the same bytes are
    read with that dtype and shape. `source` is the layer whose kernel and bias the Conv3d has; the
    layer itself where its bytes are known to be the source's. None where no source is known: the
    weight is not compared then, but its values and its numerics are checked. `progress` is
    told how far the check is, where it runs on another device than the first that was chosen, and
    what is wrong with this machine's Conv3d.

    Raises `DeviceError` where the linear layer cannot be computed.
    """
    original = source or layer

    def check(on: torch.device) -> Equivalence:
        return check_equivalence(
            load_kernel(original),
            load_tensor(layer.weight, dtype=linear.dtype, shape=linear.shape),
            bias=load_bias(layer),
            kernel_bias=load_bias(original),
            is_compared=source is not None,
            device=on,
            progress=progress,
        )

    outcome = compute_on(device, check, warn=progress.warn)
    if outcome.warning:
        progress.warn(outcome.warning)
    return outcome
