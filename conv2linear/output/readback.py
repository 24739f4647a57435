"""Prove that a written shard holds the same weights as its source, under a new shape."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conv2linear.checkpoint.header import Header, read_header
from conv2linear.checkpoint.header_edit import replace_shape, shape_text
from conv2linear.checkpoint.patch_embedding import PatchEmbedding
from conv2linear.errors import BadHeaderError, CheckFailedError


def read_back_shard(
    path: Path, before: Header, *, embeddings: tuple[PatchEmbedding, ...], sha256: Mapping[str, str]
) -> None:
    """Check a reshaped shard against its source's header and the hashes of its weights.

    Every other entry of the header is unchanged, and the `safetensors` library itself reads each
    patch embedding as `[O, K]` with the bytes that `sha256` names. Raises `CheckFailedError`.
    """
    from safetensors import SafetensorError, safe_open  # loads torch

    try:
        _check_header(path.name, before, read_header(path), embeddings)
        _check_weights(path, before, embeddings, sha256, safe_open)
    except (BadHeaderError, SafetensorError) as error:
        raise CheckFailedError(f"{path.name} was not written as planned: {error}") from error


def _check_weights(
    path: Path,
    before: Header,
    embeddings: tuple[PatchEmbedding, ...],
    sha256: Mapping[str, str],
    safe_open: Any,
) -> None:
    with safe_open(path, framework="pt") as shard:
        if set(shard.keys()) != set(before.tensors):
            raise CheckFailedError(f"{path.name}: the list of tensors has changed")
        for embedding in embeddings:
            tensor = shard.get_tensor(embedding.name)
            if tuple(tensor.shape) != embedding.geometry.linear_shape:
                raise CheckFailedError(f"{path.name}: {embedding.name} is {list(tensor.shape)}")
            size = tensor.numel() * tensor.element_size()
            content = (ctypes.c_char * size).from_address(tensor.data_ptr())
            if hashlib.sha256(content).hexdigest() != sha256[embedding.name]:
                raise CheckFailedError(f"{path.name}: the bytes of {embedding.name} have changed")


def _check_header(
    shard: str, before: Header, after: Header, embeddings: tuple[PatchEmbedding, ...]
) -> None:
    """Check that the old header comes back when the old shapes are spelled into the new one."""
    text, tensors = after.text, dict(after.tensors)
    for embedding in embeddings:
        old = before.tensors[embedding.name]
        text = replace_shape(text, embedding.name, shape_text(before.text, embedding.name))
        tensors[embedding.name] = tensors[embedding.name]._replace(shape=old.shape)
    if text.rstrip(" ") != before.text.rstrip(" ") or tensors != before.tensors:
        raise CheckFailedError(f"{shard}: the header has changed in more than the new shapes")
