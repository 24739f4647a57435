"""Check the files by themselves: headers and index, layout, config and skip list."""

from __future__ import annotations

from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.loaders import Loader
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.checkpoint.quantization.loading import find_uncovered
from conv2linear.checkpoint.quantization.methods import Choice
from conv2linear.checkpoint.quantization.quantization import read_quantization
from conv2linear.checkpoint.quantization.skip_list_edit import plan_skip_list
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
    """Check that config.json makes transformers build a linear layer, or stop if not meant for it.

    What is made for the engines alone must not turn fusion on: transformers might then load a layer
    that its quantiser has broken.
    """
    config = need_checkpoint(subject).config
    if problem := config.fusion_problem:
        raise CheckFailedError(f"{CONFIG_NAME}: {problem}")
    if not _is_for_transformers(subject):
        if config.fusion_enabled:
            raise CheckFailedError(
                f"{CONFIG_NAME}: fusion_config.patch_embeddings is on, though it was made for "
                f"{', '.join(subject.made_for)} only"
            )
        return (
            f"fusion_config is left out on purpose: made for {', '.join(subject.made_for)}, and "
            "transformers stops at the size of the patch embedding"
        )
    if not config.fusion_enabled:
        raise CheckFailedError(
            f"{CONFIG_NAME}: fusion_config.patch_embeddings is not true, so transformers would "
            "expect a conv3d kernel"
        )
    return "fusion_config.patch_embeddings is on"


def check_quantization(subject: Subject) -> str:
    """Check that no quantisation method would quantise the linear layer on load."""
    checkpoint = need_checkpoint(subject)
    quantization = read_quantization(checkpoint.config)
    if quantization is None:
        return "not quantised"
    if not _is_for_transformers(subject):
        return f"made for {', '.join(subject.made_for)}, in which no quantiser meets the layer"
    method, rules = quantization.method, quantization.rules
    reason = plan_skip_list(checkpoint.config, checkpoint.headers).refusal_reason
    if rules is None or rules.choice is Choice.UNCHECKED:
        raise SkippedError(f"it is not known how {method} chooses layers: {reason}")
    if rules.choice is Choice.BLOCKS and reason:
        raise SkippedError(reason)
    if rules.choice in (Choice.ELSEWHERE, Choice.BLOCKS):
        return f"{method} does not touch the patch embedding"
    if problem := find_uncovered(checkpoint.config, checkpoint.headers, quantization):
        raise CheckFailedError(f"{CONFIG_NAME}: {problem}")
    beware = f"; beware: {reason}" if reason else ""
    return f"{quantization.skip_list_name} covers the patch embedding{beware}"


def _is_for_transformers(subject: Subject) -> bool:
    return Loader.TRANSFORMERS in subject.made_for
