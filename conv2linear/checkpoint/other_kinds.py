"""Say what a folder is that holds no checkpoint to convert, and what to do about it.

By the names of its files, its config and the beginnings of its shards; nothing is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from conv2linear.checkpoint.adapter.adapter import is_adapter
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.json_text import find
from conv2linear.checkpoint.model_types import Geometry
from conv2linear.checkpoint.patch_embedding import is_patch_embedding
from conv2linear.errors import BadCheckpointError, UnsupportedCheckpointError
from conv2linear.sources.base import Repository

CONFIG_FILE = "config.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_COMPLETE_HINT = "is the download complete?"
_ORIGINAL_HINT = "convert the safetensors checkpoint that it was made from"
# What safetensors are beside a config, where they are neither the usual file nor in an index.
_WEIGHT_KINDS = (
    (
        "model-*-of-*.safetensors",
        "shards without the index that lists them",
        "download or copy model.safetensors.index.json too",
    ),
    (
        "*.safetensors",
        "weights by another name than transformers looks for",
        "rename the file to model.safetensors if it is the whole model",
    ),
)
# What the files of a folder say of it, most telling first: a pattern, what it is, and a hint.
_KINDS = (
    ("*.incomplete", "a download that has not ended", "start the download again: it goes on"),
    ("model_index.json", "a diffusers pipeline: each of its parts is a model", ""),
    ("adapter_model.*", "the weights of an adapter without adapter_config.json", _COMPLETE_HINT),
    *_WEIGHT_KINDS,
    ("*.gguf", "a GGUF model, which has no safetensors", _ORIGINAL_HINT),
    ("*.onnx", "an ONNX model, which has no safetensors", _ORIGINAL_HINT),
    *(
        (pattern, "a model in pickled files", "they are never opened: save it as safetensors")
        for pattern in _PICKLES
    ),
    ("tokenizer*", "a tokenizer without a model", _COMPLETE_HINT),
    ("preprocessor_config.json", "a processor without a model", _COMPLETE_HINT),
)


def missing_file_error(repository: Repository, prefix: str, what: str) -> BadCheckpointError:
    """Return the error for a folder of a repository that lacks `what`, and say what it is."""
    files = [name.removeprefix(prefix) for name in repository.files if name.startswith(prefix)]
    label = f"{repository.label}/{prefix}".removesuffix("/") if prefix else repository.label
    if not files:
        what = "no such folder in it" if prefix else f"it is empty: {what}"
        return BadCheckpointError(f"{label}: {what}", hint=_hint_for_empty(repository))
    if is_adapter(files):
        return BadCheckpointError(
            f"{label}: {what}: it is an adapter, not a whole model",
            hint="`conv2linear convert` takes adapters; else name the model that it is for",
        )
    kind, hint = _find_kind(files)
    folders = list_checkpoint_folders(repository.files, below=prefix)
    if folders:
        hint = f"a checkpoint is in {', '.join(folders[:3])}: name it by --subfolder"
    if not hint:
        is_download = any(name.startswith(".cache") for name in repository.omitted)
        hint = "is this the folder of a transformers checkpoint?"
        hint = "is the download complete?" if is_download else hint
    return BadCheckpointError(f"{label}: {what}" + (f": it is {kind}" if kind else ""), hint=hint)


def list_checkpoint_folders(files: Iterable[str], *, below: str = "") -> list[str]:
    """Return the folders that have a config and safetensors, but for the folder `below` itself."""
    names = [name for name in files if name.startswith(below)]
    with_weights = {str(PurePosixPath(n).parent) for n in names if n.endswith(".safetensors")}
    configs = {str(PurePosixPath(n).parent) for n in names if n.endswith(f"/{CONFIG_FILE}")}
    return sorted((configs & with_weights) - {".", below.removesuffix("/")})


def list_separate_models(
    files: Iterable[str], shards: Iterable[str], *, subfolder: str = ""
) -> list[str]:
    """Return the folders that hold shards of a checkpoint, and are models of their own as well.

    They have a config, and are not the folder of the checkpoint, `subfolder`: what loads a part of
    a pipeline, as diffusers does, opens such a folder alone.
    """
    own = {str(PurePosixPath(shard).parent) for shard in shards}
    return [each for each in list_checkpoint_folders(files) if each in own - {subfolder}]


def refuse_text_model(values: Mapping[str, Any], *, is_known: bool) -> None:
    """Raise `UnsupportedCheckpointError` for a config of an unknown type that sees no images."""
    towers = ("vision_config", "visual", "vision_tower", "vision_model", "thinker_config")
    if not is_known and not any(values.get(name) for name in towers):
        raise UnsupportedCheckpointError(
            f"{CONFIG_FILE}: model type {values['model_type']!r} is not supported: without a "
            "vision_config it is a model of text alone, which has no patch embedding",
            hint="there is nothing to convert in it",
        )


def refuse_mlx(
    values: Mapping[str, Any], headers: Mapping[str, Header], geometry: Geometry
) -> None:
    """Raise `UnsupportedCheckpointError` for what MLX has saved: its kernels have channels last.

    A kernel whose shape can be `[O, C, T, P, P]` alone is taken, whoever has saved it.
    """
    quantization, other = values.get("quantization"), values.get("quantization_config")
    is_quantized = isinstance(quantization, dict) and "bits" in quantization
    if is_quantized and not (isinstance(other, dict) and "quant_method" in other):
        raise UnsupportedCheckpointError(
            f"{CONFIG_FILE}: quantised by MLX, which transformers does not load",
            hint=f"{_ORIGINAL_HINT}, then quantise that",
        )
    embed_dim, channels, *rest = geometry.kernel_shape
    channels_last = (embed_dim, *rest, channels)
    for header in headers.values():
        found = (
            name
            for name, info in header.tensors.items()
            if info.shape == channels_last and is_patch_embedding(name)
        )
        name = next(found, None)
        if name is None:
            continue
        if channels_last != geometry.kernel_shape:
            raise UnsupportedCheckpointError(
                f"{name} has shape {list(channels_last)}, channels last as MLX stores a kernel: "
                f"expected {list(geometry.kernel_shape)}",
                hint=_ORIGINAL_HINT,
            )
        if _is_saved_by_mlx(header):
            raise UnsupportedCheckpointError(
                f"{name} was saved by MLX, which stores channels last: its shape "
                f"{list(channels_last)} does not tell which of its dimensions they are",
                hint=_ORIGINAL_HINT,
            )


def _is_saved_by_mlx(header: Header) -> bool:
    member = find(header.text, "__metadata__")
    metadata = json.loads(header.text[member.start : member.end]) if member else None
    return isinstance(metadata, dict) and metadata.get("format") == "mlx"


def _find_kind(files: list[str]) -> tuple[str, str]:
    has_config = CONFIG_FILE in files
    for pattern, kind, hint in _KINDS:
        if (pattern, kind, hint) in _WEIGHT_KINDS and not has_config:
            continue
        if any(fnmatchcase(name, pattern) for name in files):
            return kind, hint
    return "", ""


def _hint_for_empty(repository: Repository) -> str:
    folders = list_checkpoint_folders(repository.files)
    if folders:
        return f"folders with a checkpoint are {', '.join(folders[:3])}"
    return "is the download complete?"
