"""Check the files by themselves: headers and index, layout, config and skip list."""

from __future__ import annotations

from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.checkpoint.quantization import (
    SKIP_LIST_FIELDS,
    UNAFFECTED_METHODS,
    plan_skip_list,
    read_quantization,
)
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.needs import SkippedError, need_checkpoint
from conv2linear.operations.verify.subject import Subject
from conv2linear.text import plural


def check_files(subject: Subject) -> str:
    """Check that headers, index and config are valid and agree with each other."""
    if subject.checkpoint_error is not None:
        raise subject.checkpoint_error
    checkpoint = need_checkpoint(subject)
    headers = checkpoint.headers
    tensors = sum(len(header.tensors) for header in headers.values())
    if subject.is_overlay:
        extent = "as far as this overlay has them"
    elif checkpoint.listed.index is None:
        extent = "in a single file"
    elif checkpoint.listed.warnings:
        extent = "which the index does not list as they are"
    else:
        extent = "as the index says"
    shards = plural(len(headers), "shard")
    return f"{shards} with {plural(tensors, 'tensor')}, {extent}; headers sound"


def check_layout(subject: Subject) -> str:
    """Check that every patch embedding is a linear weight of the sizes in config.json."""
    checkpoint = need_checkpoint(subject)
    if checkpoint.layout is Layout.CONV3D:
        raise CheckFailedError("the patch embedding is a conv3d kernel, expected a linear weight")
    has_bias = checkpoint.config.supported_type.has_bias
    bias = {False: " without bias", True: ", whose bias is not in this overlay"}
    shapes = ", ".join(
        f"{e.name} {e.dtype} {list(e.shape)}" + (" with bias" if e.bias else bias[has_bias])
        for e in checkpoint.patch_embeddings
    )
    is_fused = checkpoint.layout is Layout.FUSED
    note = "; the fused layout is for transformers only" if is_fused else ""
    return f"{shapes}, as {CONFIG_NAME} says{note}"


def check_config(subject: Subject) -> str:
    """Check that config.json makes transformers build a linear layer."""
    config = need_checkpoint(subject).config
    if problem := config.fusion_problem:
        raise CheckFailedError(f"{CONFIG_NAME}: {problem}")
    if not config.fusion_enabled:
        raise CheckFailedError(
            f"{CONFIG_NAME}: fusion_config.patch_embeddings is not true, so transformers would "
            "expect a conv3d kernel"
        )
    return "fusion_config.patch_embeddings is on"


def check_quantization(subject: Subject) -> str:
    """Check that no quantisation method would quantise the linear layer on load."""
    quantization = read_quantization(need_checkpoint(subject).config)
    if quantization is None:
        return "not quantised"
    method = quantization.method
    if method in UNAFFECTED_METHODS:
        return f"{method} does not touch the patch embedding"
    if method not in SKIP_LIST_FIELDS:
        raise SkippedError(f"it is not known how {method} chooses layers")
    skip_list = ".".join(quantization.skip_list_path or ())
    if not quantization.covers():
        raise CheckFailedError(
            f"{CONFIG_NAME}: {skip_list} does not cover the patch embedding: {method} would "
            "quantise it on load"
        )
    reason = plan_skip_list(quantization).refusal_reason
    return f"{skip_list} covers the patch embedding" + (f"; beware: {reason}" if reason else "")
