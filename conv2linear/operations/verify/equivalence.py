"""Run the equivalence check on the written weights, and report each of its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.patch_embedding import Layout, PatchEmbedding, bias_name
from conv2linear.checkpoint.stored_layer import StoredLayer, read_layer
from conv2linear.equivalence.loading_torch import loading_torch
from conv2linear.equivalence.outcome import Step
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.needs import SkippedError, need_linear
from conv2linear.operations.verify.subject import Subject

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence


def compare_layers(subject: Subject) -> tuple[Equivalence, ...]:
    """Run the equivalence check on each patch embedding; on none where the layout is conv3d.

    The kernel is the source's. Without a source it is the checkpoint's own weight, where the record
    shows that its bytes are the source's. Where nothing shows that, the weight is compared with
    nothing, and its numerics are measured all the same. Raises `DeviceError`, whatever the layout.
    """
    progress = subject.options.progress
    progress.step("check")
    with loading_torch(progress):
        from conv2linear.equivalence.device import choose_device
        from conv2linear.equivalence.load import check_patch_embedding

    device = choose_device(subject.options.device, warn=progress.warn)
    checkpoint, source = subject.checkpoint, subject.source
    if checkpoint is None or checkpoint.layout is Layout.CONV3D:
        return ()
    outcomes = []
    for embedding in checkpoint.patch_embeddings:
        layer, original = read_layer(checkpoint, embedding), None
        if source is not None:
            same = _find_original(source, embedding)
            original = read_layer(source, same) if same else None
        elif _is_recorded(subject, layer):
            original = layer
        if original and _lacks_bias(subject, embedding):
            original = replace(original, bias=None)
        outcome = check_patch_embedding(
            layer,
            linear=checkpoint.headers[embedding.shard].tensors[embedding.name],
            source=original,
            device=device,
            progress=progress,
        )
        outcomes.append(outcome)
    return tuple(outcomes)


def check_finite(subject: Subject) -> str:
    """Check that every weight and bias value is finite."""
    _require_step(subject, Step.FINITE)
    absent = _absent_biases(subject)
    if absent:
        return f"every weight value is finite; not here: {', '.join(absent)}"
    return "every weight and bias value is finite"


def check_equal(subject: Subject) -> str:
    """Check that the linear layer gives the kernel's columns for all one-hot patches and zero."""
    outcomes = _require_step(subject, Step.EQUIVALENCE)
    if not all(outcome.basis_patches for outcome in outcomes):
        raise SkippedError(_why_not_compared(subject))
    against = "the source's kernel"
    if subject.source is None:
        against += ", whose SHA-256 is on record"
    given = "zero give" if not _absent_biases(subject) else "zero without the bias give"
    return f"all {outcomes[0].basis_patches} one-hot patches and {given} {against}"


def _why_not_compared(subject: Subject) -> str:
    if subject.source is not None:
        return "the source has no such patch embedding to compare with"
    if subject.manifest is not None:
        return "not the bytes on record, and no source to compare with"
    return "no source and no record to compare with"


def check_numerics(subject: Subject) -> str:
    """Check that the linear layer stays within its error bound for all sampled patches."""
    return "; ".join(
        f"{o.sampled_patches} patches in {o.dtype} on {o.environment.device}: largest error "
        f"{o.linear.max_abs:.3g}, {o.linear.max_over_bound:.0%} of its bound"
        for o in _require_step(subject, Step.NUMERICS)
        if o.linear
    )


def _require_step(subject: Subject, step: Step) -> tuple[Equivalence, ...]:
    """Return the outcomes if each of them has passed a step."""
    need_linear(subject)
    return require_step(subject, step)


def require_step(subject: Subject, step: Step) -> tuple[Equivalence, ...]:
    """Return the outcomes if each of them has passed a step, whatever was compared."""
    if not subject.equivalences:
        raise SkippedError("the equivalence check has not run")
    order = list(Step)
    for outcome in subject.equivalences:
        failed = outcome.failed_step
        if failed is step:
            raise CheckFailedError(outcome.failure or "")
        if failed is not None and order.index(failed) < order.index(step):
            raise SkippedError(f"{failed} failed")
    return subject.equivalences


def _find_original(source: Checkpoint, embedding: PatchEmbedding) -> PatchEmbedding | None:
    """Return the same patch embedding in the source, whatever its layout calls it."""
    tower = embedding.vision_tower
    return next((each for each in source.patch_embeddings if each.vision_tower == tower), None)


def _is_recorded(subject: Subject, layer: StoredLayer) -> bool:
    """Tell whether the record has the bytes of a layer as those of the source's kernel."""
    if subject.manifest is None:
        return False
    e = layer.embedding
    recorded = {record.name: record for record in subject.manifest.tensors}
    hashes = layer.hashes()
    if not hashes.keys() <= recorded.keys():
        return False
    kernel = recorded[e.name]
    return (kernel.dtype, kernel.shape_before) == (e.dtype, e.geometry.kernel_shape) and all(
        recorded[name].sha256 == sha256 for name, sha256 in hashes.items()
    )


def _lacks_bias(subject: Subject, embedding: PatchEmbedding) -> bool:
    """Tell whether a bias belongs to the layer that lies in a shard which an overlay lacks."""
    return bias_name(embedding.name) in _absent_biases(subject)


def _absent_biases(subject: Subject) -> list[str]:
    """Return the names of biases that lie in shards which an overlay lacks."""
    checkpoint = subject.checkpoint
    if (
        checkpoint is None
        or not subject.is_overlay
        or not checkpoint.config.supported_type.has_bias
    ):
        return []
    return [bias_name(e.name) for e in checkpoint.patch_embeddings if e.bias is None]
