"""The modules that transformers builds for the tensors of a checkpoint, and how each is stored.

A quantiser matches the names of modules in the model that is loaded. Those differ from the names in
the shards: older exports lack `model.`, transformers renames some on load, and the experts of a
layer, stored one by one, become one module. A test compares what is said here with the models of
all supported types, as transformers 5.24 builds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from conv2linear.checkpoint.config import ModelConfig
from conv2linear.checkpoint.header import Header, TensorInfo
from conv2linear.checkpoint.patch_embedding import (
    FLOAT_DTYPES,
    is_fused_patch_embedding,
    is_patch_embedding,
)
from conv2linear.text import TextEnum


class Kind(TextEnum):
    """What a module is for a quantiser."""

    LINEAR = "linear"
    EMBEDDING = "embedding"
    EXPERTS = "experts"  # all experts of a layer: one module with weights of three dimensions


@dataclass(frozen=True)
class StoredModule:
    """A module of the loaded model that a quantiser may take, and whether it is stored quantised.

    `name` is that in the model that `AutoModelForImageTextToText` loads.
    """

    name: str
    kind: Kind
    is_quantized: bool


# What a quantised module has beside its weight, or in the place of it, by method:
# compressed-tensors, fp8, bitsandbytes, eetq, awq, aqlm. Not here: scales of activations and of
# caches, which a module may have whose weight is not quantised.
_MARKS = re.compile(
    r"\.(?:weight_packed|weight_scale|weight_scale_inv|weight_global_scale|weight_zero_point|"
    r"qscale_weight|SCB|weight\.(?:nested_)?(?:absmax|quant_map)|weight\.quant_state\..*|"
    r"weight_scales|qweight|qzeros|codes|codebooks)$"
)
_EMBEDDINGS = ("embed_tokens", "pos_embed", "position_embedding", "ngram_embedding")
_ROUTER = "mlp.gate"  # a weight of two dimensions, in a class of its own
_EXPERT = re.compile(r"(.*\.experts)(?:\..*)?")
_LAYER = re.compile(r"\.(layers|blocks)\.(\d+)\.")
# By model type, as in `conversion_mapping.py`.
_RENAMES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "glm5_next": ((r"self_attn\.(f_[ab]_proj)(?=\.|$)", r"self_attn.forget_gate.\1"),),
    "cosmos3_omni": (
        (r"^(layers|embed_tokens|norm)(?=\.|$)", r"model.language_model.\1"),
        (
            r"^(blocks|merger|patch_embed|pos_embed|deepstack_merger_list)(?=\.|$)",
            r"model.visual.\1",
        ),
        (r"\.self_attn\.to_([qkv])(?=\.|$)", r".self_attn.\1_proj"),
        (r"\.self_attn\.to_out(?=\.|$)", ".self_attn.o_proj"),
    ),
    "hyperclovax_vision_v2": (
        (r"^model\.language_model\.lm_head", "lm_head"),
        (r"^model\.vision_projector", "model.projector"),
        (r"^model\.language_model\.model(?=\.)", "model.language_model"),
    ),
}


def rename(name: str, model_type: str) -> str:
    """Return a name as transformers renames it when it loads a model of this type."""
    for pattern, replacement in _RENAMES.get(model_type, ()):
        name = re.sub(pattern, replacement, name)
    return name


def find_linear_projections(config: ModelConfig, headers: Mapping[str, Header]) -> tuple[str, ...]:
    """Return the names that the patch embeddings have in the loaded model once they are linear."""
    names = (name for header in headers.values() for name in header.tensors)
    found = (n for n in names if is_patch_embedding(n) or is_fused_patch_embedding(n))
    return tuple(sorted(_linear_projection(n, config.model_type) for n in found))


def read_modules(config: ModelConfig, headers: Mapping[str, Header]) -> tuple[StoredModule, ...]:
    """Return the modules that a quantiser may take, by name.

    Left out is what the loaded model has not, such as layers for the prediction of more tokens, and
    what is neither a linear layer nor an embedding nor experts.
    """
    kinds: dict[str, Kind] = {}
    quantized: set[str] = set()
    known: set[str] = set()  # experts that are quantised: of 100,000 tensors most are theirs
    for name, info in _tensors(headers):
        experts = name.partition(".experts.")[0]
        if experts in known:
            continue
        if _is_beyond_the_model(name, config):
            continue
        module, is_mark = _split(name)
        if is_patch_embedding(f"{module}.weight") and not config.fusion_enabled:
            continue  # a Conv3d
        kind, module = _classify(module, config)
        if is_mark or _is_weight(name, info, kind):
            kinds[module] = kind
            if is_mark or info.dtype not in FLOAT_DTYPES:
                quantized.add(module)
                if kind is Kind.EXPERTS:
                    known.add(experts)
    return tuple(
        StoredModule(module, kind, module in quantized) for module, kind in sorted(kinds.items())
    )


def _tensors(headers: Mapping[str, Header]) -> Iterator[tuple[str, TensorInfo]]:
    for header in headers.values():
        yield from header.tensors.items()


def _split(tensor: str) -> tuple[str, bool]:
    """Split off what a tensor is in its module; tell whether that says: it is quantised."""
    if mark := _MARKS.search(tensor):
        return tensor[: mark.start()], True
    return tensor.removesuffix(".weight"), False


def _is_weight(name: str, info: TensorInfo, kind: Kind) -> bool:
    if kind is Kind.EXPERTS:
        return len(info.shape) in (2, 3)
    return name.endswith(".weight") and len(info.shape) == 2 and not _is_router(name)


def _is_router(name: str) -> bool:
    return name.removesuffix(".weight").endswith(_ROUTER)


def _classify(module: str, config: ModelConfig) -> tuple[Kind, str]:
    """Return the kind of a module, and its name in the loaded model."""
    if is_patch_embedding(f"{module}.weight"):
        return Kind.LINEAR, _linear_projection(f"{module}.weight", config.model_type)
    name = _add_prefix(rename(module, config.model_type))
    if experts := _EXPERT.fullmatch(name):
        return Kind.EXPERTS, experts[1]
    is_embedding = name.rpartition(".")[2] in _EMBEDDINGS
    return Kind.EMBEDDING if is_embedding else Kind.LINEAR, name


def _linear_projection(weight: str, model_type: str) -> str:
    module = _add_prefix(rename(weight.removesuffix(".weight"), model_type))
    return module.removesuffix(".proj").removesuffix(".linear_proj") + ".linear_proj"


def _add_prefix(name: str) -> str:
    """Add what older exports lack, as `from_pretrained` does by the model's base prefix."""
    return name if name.startswith(("model.", "lm_head")) else f"model.{name}"


def _is_beyond_the_model(name: str, config: ModelConfig) -> bool:
    """Tell whether a tensor is of a layer that the loaded model has not, as its config says."""
    if name.startswith(("mtp.", "model.mtp.")):
        return True
    layer = _LAYER.search(name)
    if layer is None:
        return False
    part, key = {
        "layers": ("text_config", "num_hidden_layers"),
        "blocks": ("vision_config", "depth"),
    }[layer[1]]
    values = config.values.get(part)
    size = values.get(key) if isinstance(values, dict) else None
    return type(size) is int and len(layer[2]) < 10 and int(layer[2]) >= size
