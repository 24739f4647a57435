"""What scripts/check_engine makes of the answers and the log of an engine."""

from __future__ import annotations

import copy

import pytest

from scripts.lib.engine_check.cases import (
    PLUGIN_LINE,
    PLUGIN_REFUSAL,
    STOCK_REFUSAL,
    Answers,
    Case,
    judge,
    plan_cases,
)

ORIGINAL: Answers = {
    name: {"tokens": [1, token], "logprobs": [{"1": -0.5}, {str(token): -0.25}]}
    for name, token in (("gradient", 2), ("checker", 3))
}
SAME = Case("linear, plugin", "linear", "same")
REFUSED = Case("linear, no plugin", "linear", "refused", STOCK_REFUSAL)
DIFFERENT = Case("columns reversed, plugin", "reversed", "different")


def changed(key: str) -> Answers:
    answers = copy.deepcopy(ORIGINAL)
    answers["checker"][key].pop()
    return answers


def test_the_same_answers_pass_where_the_plugin_says_that_it_was_at_work() -> None:
    assert judge(SAME, ORIGINAL, ORIGINAL, PLUGIN_LINE) == ("same tokens and logprobs", True)
    outcome, passed = judge(SAME, ORIGINAL, ORIGINAL, "loaded")
    assert not passed
    assert "no log line of the plugin" in outcome


@pytest.mark.parametrize("key", ["tokens", "logprobs"])
def test_other_answers_fail_where_the_same_are_expected(key: str) -> None:
    assert judge(SAME, ORIGINAL, changed(key), PLUGIN_LINE) == (f"different {key}", False)
    assert judge(DIFFERENT, ORIGINAL, changed(key), PLUGIN_LINE) == (f"different {key}", True)


def test_a_checkpoint_with_a_fault_that_gives_the_same_answers_fails() -> None:
    assert not judge(DIFFERENT, ORIGINAL, ORIGINAL, PLUGIN_LINE)[1]


def test_a_refusal_passes_only_with_its_words_and_without_answers() -> None:
    log = f"INFO start\nERROR {STOCK_REFUSAL} (1536, 1176)\n"
    assert judge(REFUSED, ORIGINAL, None, log) == (f"…{STOCK_REFUSAL} (1536, 1176)", True)
    assert judge(REFUSED, ORIGINAL, None, "out of memory") == ("failed", False)
    assert not judge(REFUSED, ORIGINAL, ORIGINAL, log)[1]
    assert judge(SAME, ORIGINAL, None, log) == ("failed", False)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_model_type_is_served_with_the_plugin_and_refused_without(engine: str) -> None:
    for model_type in ("glm4v", "glm4v_moe", "glm_ocr"):
        cases = {case.name: case for case in plan_cases(engine, model_type)}
        assert cases["linear, plugin"].expect == "same"
        assert cases["linear, no plugin"].refusal == STOCK_REFUSAL
    faults = {case.checkpoint: case for case in plan_cases(engine, "glm4v")}
    assert faults["transposed"].refusal == PLUGIN_REFUSAL
    assert faults["reversed"].expect == "different"
