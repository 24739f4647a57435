"""scripts/model_types notices when a release of transformers fuses what no table has."""

from __future__ import annotations

import pytest

from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.checkpoint.refused_types import REFUSED_TYPES
from scripts.lib.engine_check.tiny_models import MODEL_TYPES as SERVED
from scripts.lib.model_types import KNOWN_PATTERNS, Survey, judge, survey_transformers
from tests.support.installed import need_transformers_of_the_tables


@pytest.fixture(scope="module")
def survey() -> Survey:
    need_transformers_of_the_tables()
    return survey_transformers()


def test_the_installed_transformers_fuses_nothing_that_nobody_decided_about(
    survey: Survey,
) -> None:
    assert [status for status in judge(survey.fused) if status.is_open] == []
    assert survey.patterns == KNOWN_PATTERNS


def test_what_it_fuses_is_found(survey: Survey) -> None:
    refused = {name for name, row in REFUSED_TYPES.items() if row.refusal.is_fused}
    assert survey.fused == MODEL_TYPES.keys() | refused


def test_parts_of_other_models_are_not_model_types(survey: Survey) -> None:
    assert not [name for name in survey.fused if name.endswith(("_vision", "_text", "_encoder"))]


@pytest.mark.parametrize(
    ("appears", "disappears", "text"),
    [
        ("glm9v", None, "new"),
        ("minimax_m3_vl", None, "refused as not fused, but fused now"),
        (None, "glm4v", "not fused any longer"),
        (None, "qwen2_vl", "not fused any longer"),
    ],
)
def test_a_change_is_to_be_decided_about(
    appears: str | None, disappears: str | None, text: str
) -> None:
    fused = {*MODEL_TYPES, *(n for n, row in REFUSED_TYPES.items() if row.refusal.is_fused)}
    assert not any(status.is_open for status in judge(fused))
    changed = (fused | {appears} if appears else fused) - {disappears}
    (status,) = (each for each in judge(sorted(filter(None, changed))) if each.is_open)
    assert status.model_type == (appears or disappears)
    assert status.text == text


def test_a_row_that_is_taken_out_is_missed() -> None:
    fused = {*MODEL_TYPES, *(n for n, row in REFUSED_TYPES.items() if row.refusal.is_fused)}
    supported = MODEL_TYPES.keys() - {"qwen4_exp"}
    refused = {name: row for name, row in REFUSED_TYPES.items() if name != "glmga"}
    statuses = judge(fused, supported=supported, refused=refused)
    assert [(each.model_type, each.text) for each in statuses if each.is_open] == [
        ("glmga", "new"),
        ("qwen4_exp", "new"),
    ]


def test_nothing_is_said_to_be_run_in_an_engine_that_check_engine_does_not_serve() -> None:
    assert {name for name, row in MODEL_TYPES.items() if row.run_in} <= set(SERVED)
    assert all(row.run_in <= row.classes_in for row in MODEL_TYPES.values())
