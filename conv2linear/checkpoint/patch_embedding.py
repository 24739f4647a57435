"""Find the patch embeddings of a checkpoint, and check that each is one that can be linear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.model_types import Geometry
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError
from conv2linear.text import TextEnum

FLOAT_DTYPES = ("BF16", "F16", "F32")
_MAX_PATCH_EMBEDDINGS = 64


class Layout(TextEnum):
    """How a patch embedding is stored."""

    CONV3D = "conv3d"  # a kernel `[O, C, T, P, P]`
    LINEAR = "linear"  # a weight `[O, K]` under the kernel's name
    FUSED = "fused"  # a weight `[O, K]` under the name of `save_original_format=False`


@dataclass(frozen=True)
class PatchEmbedding:
    """The weight of one patch embedding, `[O, C, T, P, P]` or `[O, K]`, and its bias `[O]`."""

    name: str
    shard: str
    dtype: str
    shape: tuple[int, ...]
    geometry: Geometry
    bias: str | None
    bias_shard: str | None

    @property
    def layout(self) -> Layout:
        """The layout of this weight: conv3d, linear or fused."""
        if is_fused_patch_embedding(self.name):
            return Layout.FUSED
        return Layout.CONV3D if len(self.shape) == 5 else Layout.LINEAR

    @property
    def vision_tower(self) -> str:
        """What stands before `patch_embed` in the name: the same in every layout."""
        return self.name.removesuffix(_FUSED_WEIGHT).removesuffix(_CONV3D_WEIGHT)


def shapes_by_shard(
    embeddings: Iterable[PatchEmbedding], layout: Layout
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes that weights have in a layout, by shard and by tensor name."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for embedding in embeddings:
        geometry = embedding.geometry
        shape = geometry.kernel_shape if layout is Layout.CONV3D else geometry.linear_shape
        shapes.setdefault(embedding.shard, {})[embedding.name] = shape
    return shapes


def find_patch_embeddings(
    headers: Mapping[str, Header], geometry: Geometry, *, has_bias: bool
) -> tuple[PatchEmbedding, ...]:
    """Return all patch embeddings, by name, each one checked against the sizes of config.json.

    Raises `UnsupportedCheckpointError` where there is none, and `BadCheckpointError`.
    """
    shard_of = {name: shard for shard, header in headers.items() for name in header.tensors}
    candidates = [name for name in shard_of if _MODULE in name]
    names = sorted(n for n in candidates if is_patch_embedding(n) or is_fused_patch_embedding(n))
    if not names:
        raise UnsupportedCheckpointError(
            "no patch_embed.proj.weight in any shard",
            hint="is this the vision-language model, or only its text part?",
        )
    if len(names) > _MAX_PATCH_EMBEDDINGS:
        raise BadCheckpointError(
            f"{len(names)} patch embeddings, at most {_MAX_PATCH_EMBEDDINGS} are plausible"
        )
    members = _members_of_modules(candidates, names)
    embeddings = []
    for name in names:
        bias = bias_name(name) if bias_name(name) in shard_of else None
        info = headers[shard_of[name]].tensors[name]
        embedding = PatchEmbedding(
            name=name,
            shard=shard_of[name],
            dtype=info.dtype,
            shape=info.shape,
            geometry=geometry,
            bias=bias,
            bias_shard=shard_of.get(bias or ""),
        )
        _check_patch_embedding(embedding, members[name.removesuffix("weight")])
        _check_bias(embedding, headers, has_bias=has_bias)
        embeddings.append(embedding)
    layouts = {embedding.layout for embedding in embeddings}
    if len(layouts) > 1:
        raise BadCheckpointError(
            f"patch embeddings in several layouts: {', '.join(sorted(layouts))}"
        )
    return tuple(embeddings)


def _members_of_modules(tensors: Iterable[str], weights: Iterable[str]) -> dict[str, list[str]]:
    """Return, for each patch embedding's module (with a dot behind), all tensors below it."""
    modules = [name.removesuffix("weight") for name in weights]
    return {module: [name for name in tensors if name.startswith(module)] for module in modules}


def _check_patch_embedding(embedding: PatchEmbedding, members: Iterable[str]) -> None:
    name, shape, geometry = embedding.name, embedding.shape, embedding.geometry
    if len(shape) == 4:
        raise UnsupportedCheckpointError(f"{name} is a Conv2d kernel {list(shape)}, expected 5-D")
    if len(shape) not in (2, 5):
        raise BadCheckpointError(f"{name} has shape {list(shape)}, expected 5-D or 2-D")
    expected = geometry.kernel_shape if len(shape) == 5 else geometry.linear_shape
    if shape != expected:
        raise BadCheckpointError(
            f"{name} has shape {list(shape)}, but {CONFIG_NAME} says {list(expected)}"
        )
    if embedding.dtype not in FLOAT_DTYPES:
        raise UnsupportedCheckpointError(
            f"{name} has dtype {embedding.dtype}, expected one of {', '.join(FLOAT_DTYPES)}"
        )
    extra = min((t for t in members if t not in (name, embedding.bias)), default=None)
    if extra:
        raise UnsupportedCheckpointError(f"the patch embedding is quantised itself: {extra}")


def _check_bias(
    embedding: PatchEmbedding, headers: Mapping[str, Header], *, has_bias: bool
) -> None:
    if embedding.bias is None or embedding.bias_shard is None:
        if has_bias:
            raise BadCheckpointError(f"{bias_name(embedding.name)} is missing")
        return
    info = headers[embedding.bias_shard].tensors[embedding.bias]
    expected = (embedding.geometry.embed_dim,)
    if info.shape != expected or info.dtype != embedding.dtype:
        raise BadCheckpointError(
            f"{embedding.bias} is {info.dtype} {list(info.shape)}, "
            f"expected {embedding.dtype} {list(expected)}"
        )


_MODULE = "patch_embed."
_CONV3D_WEIGHT = f"{_MODULE}proj.weight"
_FUSED_WEIGHT = f"{_MODULE}linear_proj.weight"


def is_patch_embedding(name: str) -> bool:
    """Tell whether a tensor is the weight of a patch embedding, 5-D or already 2-D."""
    return _ends_with(name, _CONV3D_WEIGHT)


def is_fused_patch_embedding(name: str) -> bool:
    """Tell whether a tensor is a patch embedding as `save_original_format=False` names it."""
    return _ends_with(name, _FUSED_WEIGHT)


def has_patch_embedding(header: Header) -> bool:
    """Tell whether a shard has the weight of a patch embedding, in any layout."""
    return any(is_patch_embedding(n) or is_fused_patch_embedding(n) for n in header.tensors)


def is_part_of_patch_embedding(name: str) -> bool:
    """Tell whether a tensor is the weight or the bias of a patch embedding, in any layout."""
    weight = name.removesuffix("bias") + "weight" if name.endswith(".bias") else name
    return is_patch_embedding(weight) or is_fused_patch_embedding(weight)


def _ends_with(name: str, suffix: str) -> bool:
    # With or without a prefix: "model.visual." today, "visual." in older exports.
    return name.endswith(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def bias_name(weight_name: str) -> str:
    """Return the name of the bias that belongs to a weight."""
    return weight_name.removesuffix("weight") + "bias"
