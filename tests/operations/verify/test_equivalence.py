"""The steps of the equivalence check as rows of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from conv2linear import convert, verify
from conv2linear.equivalence.outcome import Environment, Equivalence, LayerError, Step
from conv2linear.errors import CheckFailedError, DeviceError
from conv2linear.operations.verify.equivalence import (
    check_equal,
    check_finite,
    check_numerics,
    compare_layers,
)
from conv2linear.operations.verify.needs import SkippedError
from conv2linear.operations.verify.subject import Options, Subject, open_subject
from tests.support.checkpoints import BIAS, MANIFEST, SMALL_KERNEL, WEIGHT, write_checkpoint
from tests.support.contents import shard_with
from tests.support.damage import edit_header, flip_bit, rename_tensors
from tests.support.models import TinyModel
from tests.support.progress import SeenProgress

CPU = Options(device="cpu")
FUNCTIONS = {
    Step.FINITE: check_finite,
    Step.EQUIVALENCE: check_equal,
    Step.NUMERICS: check_numerics,
}
SOUND = Equivalence(
    dtype="bfloat16",
    basis_patches=1176,
    sampled_patches=64,
    linear=LayerError(0.001, 0.25),
    conv3d=LayerError(0.001, 0.25),
    environment=Environment("cpu", "a CPU", "2.13.0", None),
)


def failed_at(step: Step) -> Equivalence:
    return replace(SOUND, failed_step=step, failure=f"the reason of {step}", linear=None)


@pytest.fixture
def subject(linear: Path) -> Subject:
    """Return a linear checkpoint of which the equivalence check said that it is sound."""
    return replace(open_subject(linear), equivalences=(SOUND,))


def test_every_step_has_its_function() -> None:
    assert list(FUNCTIONS) == list(Step)


def test_a_sound_layer_passes_every_step(subject: Subject) -> None:
    assert check_finite(subject) == "every weight and bias value is finite"
    assert check_equal(subject) == (
        "all 1176 one-hot patches and zero give the source's kernel, whose SHA-256 is on record"
    )
    assert check_numerics(subject) == (
        "64 patches in bfloat16 on cpu: largest error 0.001, 25% of its bound"
    )


@pytest.mark.parametrize("failed", list(Step))
@pytest.mark.parametrize("step", list(Step))
def test_a_step_fails_and_those_behind_it_are_skipped(
    failed: Step, step: Step, subject: Subject
) -> None:
    subject = replace(subject, equivalences=(SOUND, failed_at(failed)))
    order = list(Step)
    if step is failed:
        with pytest.raises(CheckFailedError, match=f"the reason of {failed}"):
            FUNCTIONS[step](subject)
    elif order.index(step) > order.index(failed):
        with pytest.raises(SkippedError, match=f"{failed} failed"):
            FUNCTIONS[step](subject)
    else:
        assert FUNCTIONS[step](subject)


@pytest.mark.parametrize("check", FUNCTIONS.values())
def test_no_step_passes_that_has_not_run(check: Callable[[Subject], str], linear: Path) -> None:
    with pytest.raises(SkippedError, match="has not run"):
        check(open_subject(linear))


def test_layers_are_compared_with_the_source(linear: Path, source: Path) -> None:
    subject = open_subject(linear, source=source, options=CPU)
    subject = replace(subject, equivalences=compare_layers(subject))
    assert check_equal(subject).endswith("zero give the source's kernel")
    flip_bit(linear, WEIGHT)
    damaged = compare_layers(open_subject(linear, source=source, options=CPU))
    assert [outcome.failed_step for outcome in damaged] == [Step.EQUIVALENCE]


def test_without_source_and_record_there_is_nothing_to_compare_with(linear: Path) -> None:
    (linear / MANIFEST).unlink()
    subject = open_subject(linear, options=CPU)
    subject = replace(subject, equivalences=compare_layers(subject))
    with pytest.raises(SkippedError, match="no source and no record to compare with"):
        check_equal(subject)
    assert check_finite(subject) == "every weight and bias value is finite"
    assert "of its bound" in check_numerics(subject)


def test_bytes_that_are_not_on_record_are_compared_with_a_source_only(
    linear: Path, source: Path
) -> None:
    flip_bit(linear, BIAS)
    subject = open_subject(linear, options=CPU)
    subject = replace(subject, equivalences=compare_layers(subject))
    with pytest.raises(SkippedError, match="not the bytes on record, and no source"):
        check_equal(subject)
    (outcome,) = compare_layers(open_subject(linear, source=source, options=CPU))
    assert outcome.failure == "the zero patch does not give the bias"


def test_a_fused_layer_is_compared_with_the_source_whose_names_differ(
    linear: Path, source: Path
) -> None:
    (linear / MANIFEST).unlink()
    rename_tensors(
        linear, lambda name: name.replace("patch_embed.proj.", "patch_embed.linear_proj.")
    )
    for damage in (False, True):
        if damage:
            flip_bit(linear, WEIGHT.replace("proj", "linear_proj"))
        (outcome,) = compare_layers(open_subject(linear, source=source, options=CPU))
        assert outcome.basis_patches == 1176
        assert (outcome.failed_step is Step.EQUIVALENCE) == damage


def test_an_overlay_says_that_a_bias_is_not_here(tmp_path: Path) -> None:
    source = write_checkpoint(
        tmp_path / "source", shards=2, kernel=SMALL_KERNEL, weight_shard=0, bias_shard=1
    )
    convert(source, tmp_path / "overlay", device="cpu", changed_only=True)
    for options in ({}, {"source": source}):
        subject = open_subject(tmp_path / "overlay", options=CPU, **options)
        subject = replace(subject, equivalences=compare_layers(subject))
        assert check_finite(subject) == f"every weight value is finite; not here: {BIAS}"
        assert check_equal(subject).startswith(
            "all 1176 one-hot patches and zero without the bias give the source's kernel"
        )


def test_an_overlay_of_a_type_without_bias_lacks_none(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    convert(tiny_model("exaone4_5"), tmp_path / "overlay", device="cpu", changed_only=True)
    subject = open_subject(tmp_path / "overlay", options=CPU)
    subject = replace(subject, equivalences=compare_layers(subject))
    assert "not here" not in check_finite(subject)
    assert "without the bias" not in check_equal(subject)


def test_a_conv3d_that_does_not_compute_is_a_warning(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*inputs: Any, **options: Any) -> Any:
        raise RuntimeError("no engine")

    monkeypatch.setattr(torch.nn.functional, "conv3d", broken)
    progress = SeenProgress()
    options = replace(CPU, progress=progress)
    (outcome,) = compare_layers(open_subject(linear, options=options))
    assert outcome.failure is None
    assert progress.warnings == [outcome.warning]
    assert verify(linear, device="cpu", progress=SeenProgress()).warnings == (outcome.warning,)


def test_a_layer_of_a_conv3d_checkpoint_is_not_compared(source: Path) -> None:
    subject = open_subject(source, options=CPU)
    assert compare_layers(subject) == ()
    with pytest.raises(SkippedError, match="the layout is conv3d"):
        check_finite(subject)


def test_a_device_that_does_not_exist_is_an_error_for_every_layout(source: Path) -> None:
    with pytest.raises(DeviceError):
        compare_layers(open_subject(source, options=Options(device="cuda:99")))


def test_a_source_of_another_size_is_not_the_same_layer(
    linear: Path, tiny_model: TinyModel
) -> None:
    source = tiny_model("glm4v", patch_size=16)
    (outcome,) = compare_layers(open_subject(linear, source=source, options=CPU))
    assert outcome.failed_step is Step.EQUIVALENCE
    assert "[128, 1176], expected torch.bfloat16 [128, 1536]" in str(outcome.failure)


def _state_float16(header: dict[str, Any], name: str) -> None:
    header[name]["dtype"] = "F16"


def test_a_source_of_another_dtype_is_not_the_same_layer(
    linear: Path, source: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(source, tmp_path / "source"))
    for name in (WEIGHT, BIAS):
        edit_header(shard_with(other, name), partial(_state_float16, name=name))
    (outcome,) = compare_layers(open_subject(linear, source=other, options=CPU))
    assert outcome.failed_step is Step.EQUIVALENCE
    assert "expected torch.float16" in str(outcome.failure)
