"""What is said of releases of transformers is what the committed runs have shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conv2linear.checkpoint import compatibility
from conv2linear.checkpoint.compatibility import Traits, assess, describe, first_release
from conv2linear.checkpoint.loader_facts import FIRST_RELEASE_READ
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.checkpoint.patch_embedding import Layout
from scripts.lib.check_transformers import Run, format_page, merge_runs, read_runs
from scripts.lib.results import RESULTS

RUNS = read_runs(RESULTS)
ONE = Run("5.6", "glm4v", expected=True, loads=True, detail="builds nn.Linear")


def test_each_first_release_was_loaded_or_is_marked_as_read() -> None:
    loaded = {(run.release, run.model_type) for run in RUNS if run.loads}
    unproven = {each for each in MODEL_TYPES if (first_release(each), each) not in loaded}
    assert unproven == FIRST_RELEASE_READ


def test_no_committed_run_contradicts_what_is_said() -> None:
    assert [run for run in RUNS if run.loads != run.expected] == []
    assert "All as it is said." in format_page(RUNS)
    page = (RESULTS / "transformers.md").read_text()
    assert all(line in page for line in format_page(RUNS))


def test_the_newest_release_of_the_runs_was_tried_with_every_model_type() -> None:
    newest = RUNS[-1].release
    assert {run.model_type for run in RUNS if run.release == newest} == set(MODEL_TYPES)


def test_the_last_release_without_fusion_was_seen_to_refuse_it() -> None:
    assert "mismatch" in next(
        run.detail for run in RUNS if run.release == "5.5.4" and not run.loads
    )


def test_a_first_release_that_nothing_has_loaded_is_marked_in_the_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traits = Traits("glm4v", Layout.LINEAR, "BF16", vision_tower="model.visual.", fuses=True)
    mark = "transformers 5.6 or newer as it is (read in its source, not run)"
    assert mark not in dict(describe(assess(traits)))["loads in"]
    monkeypatch.setattr(compatibility, "FIRST_RELEASE_READ", {"glm4v"})
    assert mark in dict(describe(assess(traits)))["loads in"]


def test_a_run_that_is_made_again_takes_the_place_of_the_earlier_one() -> None:
    newer, again = replace(ONE, release="5.16"), replace(ONE, loads=False)
    assert merge_runs([newer, ONE], [again]) == [again, newer]
    assert "Not as it is said: 5.6 glm4v." in format_page([again, newer])


def test_where_there_is_no_report_there_are_no_runs() -> None:
    assert read_runs(RESULTS / "nowhere") == []
