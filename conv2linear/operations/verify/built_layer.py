"""Compare the layer that an engine has built with the tensors of the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conv2linear.checkpoint.config import ModelConfig
from conv2linear.checkpoint.patch_embedding import FLOAT_DTYPES
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.engine_input import StoredProjection, StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

    from conv2linear.equivalence.patches import Samples


@dataclass(frozen=True)
class BuiltLayer:
    """A layer that an engine has built: its class, and on the CPU its parameters and output.

    `output` `[N, O]` is that of the sampled patches, None where there were none.
    """

    module: str
    weight: Tensor
    bias: Tensor | None
    output: Tensor | None


def sample_for(stored: StoredProjection, config: ModelConfig) -> Samples | None:
    """Make patches for a layer; None where its weight is none that could be run on them."""
    from conv2linear.equivalence.load import load_tensor
    from conv2linear.equivalence.patches import sample_patches

    weight, geometry = stored.weight, config.geometry
    is_projection = weight.shape in (geometry.kernel_shape, geometry.linear_shape)
    if not is_projection or weight.dtype not in FLOAT_DTYPES:
        return None
    kernel = load_tensor(weight.content, dtype=weight.dtype, shape=geometry.kernel_shape)
    return sample_patches(kernel, bias=_load(stored.bias) if stored.bias else None)


def compare_built(stored: StoredProjection, built: BuiltLayer, samples: Samples | None) -> str:
    """Compare a layer with the file bit for bit, and its output with float64; say what was found.

    An engine casts the file's numbers to the dtype of the model. Raises `CheckFailedError`.
    """
    weight, bias = _compare_values("weight", stored.weight, built.weight), None
    if stored.bias is not None:
        if built.bias is None:
            raise CheckFailedError("builds a layer without bias, and the file has one")
        bias = _compare_values("bias", stored.bias, built.bias)
    elif built.bias is not None:
        raise CheckFailedError("builds a layer with a bias, and the file has none")
    dtype = str(built.weight.dtype).removeprefix("torch.")
    is_cast = _load(stored.weight).dtype != built.weight.dtype
    found = f"builds {built.module} {dtype} {list(built.weight.shape)} with the file's values"
    found += f", cast from {stored.weight.dtype}" if is_cast else ""
    if built.output is None or samples is None:
        return found
    # What is extreme for one dtype may be out of the range of another.
    patches = [samples.ordinary] if is_cast else [samples.ordinary, samples.extreme]
    return f"{found}, {_compare_output(built.output, patches, weight, bias)}"


def _load(stored: StoredTensor) -> Tensor:
    from conv2linear.equivalence.load import load_tensor

    return load_tensor(stored.content, dtype=stored.dtype, shape=stored.shape)


def _compare_values(kind: str, stored: StoredTensor, built: Tensor) -> Tensor:
    """Return what the file has, in the dtype of the layer, if the layer has it in every bit."""
    if stored.dtype not in FLOAT_DTYPES:
        raise CheckFailedError(
            f"loads {stored.name}, which is {stored.dtype} and of no use without its scale"
        )
    expected = _load(stored).to(built.dtype)
    if built.numel() != expected.numel() or len(built) != len(expected):
        raise CheckFailedError(
            f"builds a {kind} {list(built.shape)}, but {stored.name} is {list(stored.shape)}"
        )
    differ = int((_bits(built) != _bits(expected)).sum())
    if differ:
        never = ", as if it had never been loaded" if differ > expected.numel() // 2 else ""
        raise CheckFailedError(
            f"builds a layer where {differ} of the {expected.numel()} values of the {kind} are not "
            f"those of {stored.name}{never}"
        )
    return expected


def _bits(tensor: Tensor) -> Tensor:
    import torch

    as_integers = {2: torch.int16, 4: torch.int32}[tensor.element_size()]
    return tensor.detach().contiguous().flatten().view(as_integers)


def _compare_output(
    output: Tensor, patches: list[Tensor], weight: Tensor, bias: Tensor | None
) -> str:
    """Hold the output of all patches against the error bound of the equivalence check."""
    import torch

    from conv2linear.equivalence.error_bound import largest_error

    bias64 = torch.zeros(len(weight)).double() if bias is None else bias.double()
    start, largest = 0, 0.0
    for part in patches:
        rows = output[start : start + len(part)]
        start += len(part)
        if rows.shape != (len(part), len(weight)):
            raise CheckFailedError(f"builds a layer with an output {list(output.shape)}")
        found = largest_error(rows, part.to(output.dtype), kernel=weight, bias64=bias64)
        largest = max(largest, found.max_over_bound)
    if not largest <= 1:
        raise CheckFailedError(
            f"builds a layer whose output exceeds its error bound {largest:.3g} times"
        )
    return f"output of {start} patches within {largest:.0%} of its error bound"
