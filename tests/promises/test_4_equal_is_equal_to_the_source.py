"""A weight is called equal to what it was compared with: its source or its record, never itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from conv2linear import Verification, convert, verify
from conv2linear.cli.app import run
from tests.support.checkpoints import BIAS, MANIFEST, WEIGHT
from tests.support.damage import change_values, swap_rows


def roll(weight: Tensor) -> Tensor:
    return weight.flatten().roll(1).view(weight.shape)


DAMAGES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a weight rolled by one value": (roll, WEIGHT),
    "a bias rolled by one value": (roll, BIAS),
    "rows exchanged": (swap_rows, WEIGHT),
    "zeros": (lambda weight: weight * 0, WEIGHT),
}


@pytest.fixture
def linear(checkpoint: Path, out: Path) -> Path:
    convert(checkpoint, out, device="cpu")
    return out


@pytest.fixture(params=DAMAGES)
def damaged(request: pytest.FixtureRequest, linear: Path) -> Path:
    change, name = DAMAGES[request.param]
    change_values(linear, change, name=name)
    return linear


def outcome_of(verification: Verification, name: str = "equivalence") -> str:
    return next(str(each.outcome) for each in verification.checks if each.name == name)


def test_a_damaged_weight_is_not_equal_to_itself(damaged: Path) -> None:
    (damaged / MANIFEST).unlink()
    verification = verify(damaged, device="cpu")
    assert outcome_of(verification) == "skip"
    assert verification.equivalences[0].basis_patches == 0


def test_a_damaged_weight_is_not_equal_to_its_source(damaged: Path, checkpoint: Path) -> None:
    (damaged / MANIFEST).unlink()
    assert outcome_of(verify(damaged, source=checkpoint, device="cpu")) == "fail"


def test_a_damaged_weight_is_not_what_the_record_says(damaged: Path) -> None:
    verification = verify(damaged, device="cpu")
    assert outcome_of(verification) == "skip"
    assert outcome_of(verification, "recorded tensors") == "fail"


def test_the_record_or_the_source_shows_that_a_sound_weight_is_equal(
    linear: Path, checkpoint: Path
) -> None:
    assert outcome_of(verify(linear, device="cpu")) == "pass"
    (linear / MANIFEST).unlink()
    assert outcome_of(verify(linear, source=checkpoint, device="cpu")) == "pass"
    assert outcome_of(verify(linear, device="cpu")) == "skip"


def test_the_command_line_says_why_it_compared_nothing(
    linear: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (linear / MANIFEST).unlink()
    run(["verify", str(linear), "--device", "cpu", "--json"])
    checks = {each["name"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["equivalence"]["outcome"] == "skip"
    assert checks["equivalence"]["detail"] == "no source and no record to compare with"
    assert checks["finite"]["outcome"] == checks["numerics"]["outcome"] == "pass"
