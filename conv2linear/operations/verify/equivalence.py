"""Run the equivalence check on the written weights, and report each of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.patch_embedding import Layout, PatchEmbedding
from conv2linear.equivalence.outcome import Step
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.needs import SkippedError, need_linear
from conv2linear.operations.verify.subject import Subject

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence


def compare_layers(subject: Subject) -> tuple[Equivalence, ...]:
    """Run the equivalence check on each patch embedding; on none where the layout is conv3d.

    The kernel is the source's. Without a source it is the checkpoint's own weight, whose numerics
    are then measured all the same. Raises `DeviceError`, whatever the layout is.
    """
    from conv2linear.equivalence.device import resolve_device  # loads torch
    from conv2linear.equivalence.load import check_patch_embedding, read_layer

    device = resolve_device(subject.options.device)
    checkpoint, source = subject.checkpoint, subject.source
    if checkpoint is None or checkpoint.layout is Layout.CONV3D:
        return ()
    subject.options.progress.step(Step.EQUIVALENCE)
    outcomes = []
    for embedding in checkpoint.patch_embeddings:
        original = _find_original(source, embedding)
        outcomes.append(
            check_patch_embedding(
                read_layer(checkpoint, embedding),
                linear=checkpoint.headers[embedding.shard].tensors[embedding.name],
                source=read_layer(source, original) if source and original else None,
                device=device,
            )
        )
    return tuple(outcomes)


def check_finite(subject: Subject) -> str:
    """Check that every weight and bias value is finite."""
    _require_step(subject, Step.FINITE)
    return "every weight and bias value is finite"


def check_equal(subject: Subject) -> str:
    """Check that the linear layer gives the kernel's columns for all one-hot patches and zero."""
    outcomes = _require_step(subject, Step.EQUIVALENCE)
    embeddings = need_linear(subject).patch_embeddings
    if all(_find_original(subject.source, embedding) for embedding in embeddings):
        against = "the source's kernel"
    else:
        against = "its own columns, as no source is given"
    return f"all {outcomes[0].basis_patches} one-hot patches and zero give {against}"


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


def _find_original(source: Checkpoint | None, embedding: PatchEmbedding) -> PatchEmbedding | None:
    """Return the patch embedding of the same name in the source."""
    candidates = source.patch_embeddings if source else ()
    return next((each for each in candidates if each.name == embedding.name), None)
