"""Run the equivalence check on the written weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.patch_embedding import Layout, PatchEmbedding
from conv2linear.operations.verify.subject import Check, Outcome, Run

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence


def _check_equivalence(run: Run, device: str) -> None:
    """Run the equivalence check on each patch embedding, and report each of its steps."""
    from conv2linear.equivalence.device import resolve_device
    from conv2linear.equivalence.outcome import Step

    torch_device = resolve_device(device)
    run.progress.step("equivalence")
    if run.checkpoint is None or run.checkpoint.layout == Layout.CONV3D:
        reason = "the files are not sound" if run.checkpoint is None else "the layout is conv3d"
        run.checks += [
            Check(step, Outcome.SKIP, reason) for step in ("finite", "equivalence", "numerics")
        ]
        return
    for embedding in run.checkpoint.patch_embeddings:
        kernel, is_own = _source_kernel(run, embedding)
        run.equivalences.append(_equivalence(run.checkpoint, embedding, kernel, torch_device))
    against = "its own columns, as no source is given" if is_own else "the source's kernel"
    steps = {Step.FINITE: "finite", Step.EQUIVALENCE: "equivalence", Step.NUMERICS: "numerics"}
    for step, name in steps.items():
        run.checks.append(_step_check(name, step, list(steps), run.equivalences, against))


def _step_check(
    name: str, step: str, steps: list[str], outcomes: list[Equivalence], against: str
) -> Check:
    for outcome in outcomes:
        if outcome.failed_step == step:
            return Check(name, Outcome.FAIL, outcome.failure or "")
        if outcome.failed_step and steps.index(outcome.failed_step) < steps.index(step):
            return Check(name, Outcome.SKIP, f"{outcome.failed_step} failed")
    first = outcomes[0]
    details = {
        "finite": "every weight and bias value is finite",
        "equivalence": f"all {first.basis_patches} one-hot patches and zero give {against}",
        "numerics": "; ".join(
            f"{o.sampled_patches} patches in {o.dtype} on {o.environment.device}: largest error "
            f"{o.linear.max_abs:.3g}, {o.linear.max_over_bound:.0%} of its bound"
            for o in outcomes
            if o.linear
        ),
    }
    return Check(name, Outcome.PASS, details[name])


def _source_kernel(run: Run, embedding: PatchEmbedding) -> tuple[bytes, bool]:
    """Return the kernel's bytes from the source, or else from the checkpoint itself."""
    for e in run.source.patch_embeddings if run.source else ():
        if run.source and e.name == embedding.name and e.dtype == embedding.dtype:
            return run.source.read_tensor(e.shard, e.name), False
    return run.opened.read_tensor(embedding.shard, embedding.name), True


def _equivalence(
    checkpoint: Checkpoint, embedding: PatchEmbedding, kernel: bytes, device: object
) -> Equivalence:
    from conv2linear.equivalence.check import check_equivalence
    from conv2linear.equivalence.layers import load_bias, load_tensor

    e = embedding
    weight = load_tensor(checkpoint.read_tensor(e.shard, e.name), dtype=e.dtype, shape=e.shape)
    return check_equivalence(
        load_tensor(kernel, dtype=e.dtype, shape=e.geometry.kernel_shape),
        weight,
        bias=load_bias(checkpoint.read_bias(e), dtype=e.dtype),
        device=device,  # type: ignore[arg-type]  # a torch.device: torch is not imported here
    )
