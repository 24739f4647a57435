"""What an adapter has of a patch embedding: its tensors, and the shape of each in both layouts.

To a Conv3d PEFT adds a Conv3d of the same kernel, `lora_A`, and one of kernel 1×1×1, `lora_B`; to a
linear layer it adds two linear layers. Each pair is the same map for the same reason as the patch
embedding itself: the kernel meets every patch exactly once, and a kernel of 1×1×1 meets one value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from conv2linear.checkpoint.header import TensorInfo
from conv2linear.checkpoint.model_types import MAX_IN_FEATURES, MAX_VALUES, Geometry
from conv2linear.checkpoint.patch_embedding import FLOAT_DTYPES, Layout
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError
from conv2linear.text import TextEnum

_MODULE_NAMES = {Layout.CONV3D: "proj", Layout.LINEAR: "linear_proj"}
_LAYER = re.compile(r"(?P<module>(?:.*\.)?patch_embed\.(?P<name>proj|linear_proj))\.(?P<rest>.+)")
_PREFIX = "base_model.model."  # of every name that PEFT saves


class AdapterPart(TextEnum):
    """What a tensor of an adapter is to the layer that it belongs to."""

    LORA_A = "lora_A"
    LORA_B = "lora_B"
    LORA_B_BIAS = "lora_B.bias"
    MAGNITUDE = "lora_magnitude_vector"  # of DoRA, one value for each output
    WEIGHT = "weight"  # a full copy
    BASE_WEIGHT = "base_layer.weight"
    BIAS = "bias"  # of the base layer, trained or a full copy


# What stands behind the module's name; an adapter's own name may be in it.
_PARTS = {
    AdapterPart.LORA_A: r"lora_A(?:\.[^.]+)?\.weight",
    AdapterPart.LORA_B: r"lora_B(?:\.[^.]+)?\.weight",
    AdapterPart.LORA_B_BIAS: r"lora_B(?:\.[^.]+)?\.bias",
    AdapterPart.MAGNITUDE: r"lora_magnitude_vector(?:\.[^.]+){0,2}",
    AdapterPart.WEIGHT: r"(?:modules_to_save\.[^.]+\.)?weight",
    AdapterPart.BASE_WEIGHT: r"base_layer\.weight",
    AdapterPart.BIAS: r"(?:modules_to_save\.[^.]+\.|base_layer\.)?bias",
}
_DIMENSIONS = {
    Layout.CONV3D: {
        AdapterPart.LORA_A: 5,
        AdapterPart.LORA_B: 5,
        AdapterPart.MAGNITUDE: 5,
        AdapterPart.WEIGHT: 5,
    },
    Layout.LINEAR: {
        AdapterPart.LORA_A: 2,
        AdapterPart.LORA_B: 2,
        AdapterPart.MAGNITUDE: 1,
        AdapterPart.WEIGHT: 2,
    },
}


@dataclass(frozen=True)
class LayerTensor:
    """One tensor that an adapter has of a patch embedding; `module` is the layer in the base."""

    name: str
    module: str
    layout: Layout
    part: AdapterPart
    info: TensorInfo

    @property
    def is_map(self) -> bool:
        """Whether it is the weight of a layer, and so another map if its values are mixed up."""
        return self.part in (
            AdapterPart.LORA_A,
            AdapterPart.LORA_B,
            AdapterPart.WEIGHT,
            AdapterPart.BASE_WEIGHT,
        )

    @property
    def geometry(self) -> Geometry:
        """Sizes of the layer that this is the weight of; a linear one is a kernel 1×1×1."""
        embed_dim, in_channels, *kernel = self.info.shape
        frames, patch, _ = kernel or (1, 1, 1)
        return Geometry(embed_dim, in_channels, frames, patch)

    def name_in(self, layout: Layout) -> str:
        """Return the tensor's name in a layout."""
        module = f"patch_embed.{_MODULE_NAMES[self.layout]}."
        before, _, rest = self.name.rpartition(module)
        return f"{before}patch_embed.{_MODULE_NAMES[layout]}.{rest}"

    def shape_in(self, layout: Layout, kernel: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the tensor's shape in a layout.

        `kernel` is `[C, T, P, P]` of the patch embedding, which the linear layout does not show.
        """
        shape = self.info.shape
        if layout is self.layout or self.part in (AdapterPart.BIAS, AdapterPart.LORA_B_BIAS):
            return shape
        if self.part is AdapterPart.MAGNITUDE:
            size = math.prod(shape)
            return (size,) if layout is Layout.LINEAR else (1, size, 1, 1, 1)
        if layout is Layout.LINEAR:
            return (shape[0], math.prod(shape[1:]))
        return (*shape, 1, 1, 1) if self.part is AdapterPart.LORA_B else (shape[0], *kernel)


def module_in(module: str, layout: Layout) -> str:
    """Return the name that a patch embedding has in a layout, from its name in either."""
    return f"{module.rpartition('.')[0]}.{_MODULE_NAMES[layout]}"


def find_layer_tensors(tensors: Mapping[str, TensorInfo], peft_type: str) -> list[LayerTensor]:
    """Return the tensors that belong to patch embeddings, by name, each one checked.

    Raises `UnsupportedCheckpointError` where they are not those of a LoRA on a layer that could be
    linear, and `BadCheckpointError` where they contradict each other.
    """
    found = [
        _read_tensor(name, match, info, peft_type)
        for name, info in sorted(tensors.items())
        if (match := _LAYER.fullmatch(name))
    ]
    layouts = sorted({tensor.layout for tensor in found})
    if len(layouts) > 1:
        raise BadCheckpointError(
            f"patch embeddings in several layouts: {', '.join(layouts)}",
            hint="save the adapter of one base again with PEFT",
        )
    for module in sorted({tensor.module for tensor in found}):
        _check_module([tensor for tensor in found if tensor.module == module])
    return found


def _read_tensor(name: str, match: re.Match[str], info: TensorInfo, peft_type: str) -> LayerTensor:
    if peft_type != "LORA":
        raise UnsupportedCheckpointError(
            f"{name}: an adapter of type {peft_type} on the patch embedding cannot be converted",
            hint="only LORA can; train it on the linear checkpoint, or leave patch_embed out",
        )
    layout = Layout.CONV3D if match["name"] == "proj" else Layout.LINEAR
    part = next((p for p, pattern in _PARTS.items() if re.fullmatch(pattern, match["rest"])), None)
    if part is None:
        raise UnsupportedCheckpointError(
            f"{name}: not a tensor that a LoRA has of a patch embedding",
            hint="LoRA, with DoRA, biases or full copies of the layer, can be converted",
        )
    tensor = LayerTensor(name, match["module"].removeprefix(_PREFIX), layout, part, info)
    _check_shape(tensor)
    return tensor


def _check_shape(tensor: LayerTensor) -> None:
    shape, part = tensor.info.shape, tensor.part
    key = AdapterPart.WEIGHT if part is AdapterPart.BASE_WEIGHT else part
    expected = _DIMENSIONS[tensor.layout].get(key, 1)
    fits = len(shape) == expected and 0 not in shape
    if fits and tensor.layout is Layout.CONV3D:
        is_kernel = key in (AdapterPart.LORA_A, AdapterPart.WEIGHT)
        is_point = {AdapterPart.LORA_B: shape[2:], AdapterPart.MAGNITUDE: (*shape[:1], *shape[2:])}
        fits = shape[-1] == shape[-2] if is_kernel else set(is_point.get(part, ())) <= {1}
    if not fits:
        raise UnsupportedCheckpointError(
            f"{tensor.name} is {list(shape)}, which is not of a {tensor.layout} patch embedding",
            hint="its base is another model: of GLM-4.1V and its relatives the layer is a Conv3d "
            "with square patches",
        )
    if tensor.info.dtype not in FLOAT_DTYPES:
        raise UnsupportedCheckpointError(
            f"{tensor.name} has dtype {tensor.info.dtype}, expected one of "
            f"{', '.join(FLOAT_DTYPES)}",
            hint="save the adapter in one of these",
        )
    columns = math.prod(shape[1:])
    if tensor.is_map and (columns > MAX_IN_FEATURES or shape[0] * columns > MAX_VALUES):
        raise UnsupportedCheckpointError(
            f"{tensor.name} is {list(shape)}, too large to be checked: at most {MAX_IN_FEATURES} "
            f"values in a patch, and {MAX_VALUES} in all",
            hint="no patch embedding that is known comes near it: is the file damaged?",
        )


def _check_module(tensors: list[LayerTensor]) -> None:
    """Check that the tensors of one layer are one of each, and of one rank and one embed dim."""
    parts = {tensor.part: tensor for tensor in tensors}
    if len(parts) < len(tensors):
        names = [tensor.name for tensor in tensors if parts[tensor.part] is not tensor]
        raise _contradiction(f"{names[0]}: the adapter has this part of the layer twice")
    a, b = parts.get(AdapterPart.LORA_A), parts.get(AdapterPart.LORA_B)
    if (a is None) != (b is None):
        here, missing = (a, AdapterPart.LORA_B) if a else (b, AdapterPart.LORA_A)
        raise _contradiction(f"{here.name if here else ''}: its {missing} is missing")
    if a and b and a.info.shape[0] != b.info.shape[1]:
        raise _contradiction(
            f"{a.name} has rank {a.info.shape[0]}, {b.name} has rank {b.info.shape[1]}"
        )
    if a is None and (
        extra := parts.get(AdapterPart.MAGNITUDE) or parts.get(AdapterPart.LORA_B_BIAS)
    ):
        raise _contradiction(
            f"{extra.name}: its {AdapterPart.LORA_A} and {AdapterPart.LORA_B} are missing"
        )
    sizes = {
        tensor.name: math.prod(tensor.info.shape)
        if tensor.part in (AdapterPart.MAGNITUDE, AdapterPart.BIAS, AdapterPart.LORA_B_BIAS)
        else tensor.info.shape[0]
        for tensor in tensors
        if tensor.part is not AdapterPart.LORA_A
    }
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} has {size}" for name, size in sorted(sizes.items()))
        raise _contradiction(f"the outputs of one layer differ: {found}")


def _contradiction(reason: str) -> BadCheckpointError:
    return BadCheckpointError(reason, hint="is it whole, and saved from one model by PEFT?")
