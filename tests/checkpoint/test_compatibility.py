"""Where a checkpoint loads follows from what it is, and promises no more than was run or read."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from conv2linear.checkpoint.compatibility import (
    Evidence,
    Loading,
    Support,
    Traits,
    assess,
    describe,
    first_release,
)
from conv2linear.checkpoint.loaders import Loader
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.checkpoint.patch_embedding import Layout

LINEAR = Traits(
    model_type="glm4v_moe",
    layout=Layout.LINEAR,
    dtype="BF16",
    vision_tower="model.visual.",
    fuses=True,
)
METHODS = (None, "compressed-tensors", "fp8", "bitsandbytes", "awq", "modelopt", "unheard of")


def in_loader(traits: Traits, loader: str) -> Loading:
    return next(each for each in assess(traits) if each.loader == loader)


def test_a_linear_checkpoint_loads_in_transformers_as_it_is_and_in_the_engines_by_the_plugin() -> (
    None
):
    assert describe(assess(LINEAR)) == (
        (
            "loads in",
            "transformers 5.6 or newer as it is; vLLM with the plugin; SGLang with the plugin",
        ),
        ("not read by", "llama.cpp, mlx-vlm, Megatron-Bridge (by their sources, not run)"),
    )


@pytest.mark.parametrize(
    ("model_type", "release"),
    [("glm4v", "5.6"), ("glm_ocr", "5.6"), ("exaone4_5", "5.8"), ("glm5_next", "5.16.1")],
)
def test_the_first_release_of_transformers_is_that_of_the_model_type(
    model_type: str, release: str
) -> None:
    traits = replace(LINEAR, model_type=model_type)
    found = in_loader(traits, Loader.TRANSFORMERS)
    assert found.versions == f"{release} or newer"
    assert "(up to 5.20 with torchvision installed)" in found.reason
    assert first_release(model_type) == release


def test_without_fusion_transformers_does_not_load_it_and_the_engines_do() -> None:
    traits = replace(LINEAR, fuses=False)
    found = in_loader(traits, Loader.TRANSFORMERS)
    assert found.support is Support.NO
    assert "size mismatch" in found.reason
    assert in_loader(traits, Loader.VLLM).support is Support.WITH_PLUGIN


def test_what_transformers_would_load_wrongly_does_not_load_there() -> None:
    traits = replace(LINEAR, method="compressed-tensors", transformers_problem="INT8 is random")
    assert in_loader(traits, Loader.TRANSFORMERS).support is Support.NO
    assert in_loader(traits, Loader.VLLM).support is Support.WITH_PLUGIN
    labels = [label for label, _ in describe(assess(traits))]
    assert "does not load in" in labels


@pytest.mark.parametrize(
    "change",
    [{"dtype": "F32"}, {"vision_tower": "visual."}, {"method": "awq"}, {"model_type": "qwen3_5"}],
)
def test_what_no_engine_has_run_is_marked_as_read(change: dict[str, str]) -> None:
    for engine in (Loader.VLLM, Loader.SGLANG):
        found = in_loader(replace(LINEAR, **change), engine)  # type: ignore[arg-type]
        assert found.evidence is Evidence.READ
        assert found.versions is None
    text = dict(describe(assess(replace(LINEAR, **change))))  # type: ignore[arg-type]
    assert "vLLM with the plugin (read in its source, not run)" in text["loads in"]


@pytest.mark.parametrize(
    ("model_type", "engines"),
    [
        ("exaone4_5", {Loader.VLLM}),
        ("glm46v", set()),
        ("hyperclovax_vision_v2", set()),
        ("qwen4_exp", {Loader.VLLM, Loader.SGLANG}),
    ],
)
def test_a_model_type_without_a_class_in_an_engine_is_not_tried_there(
    model_type: str, engines: set[Loader]
) -> None:
    traits = replace(LINEAR, model_type=model_type)
    for engine in (Loader.VLLM, Loader.SGLANG):
        expected = Support.WITH_PLUGIN if engine in engines else Support.NOT_TRIED
        assert in_loader(traits, engine).support is expected
    assert ("not tried in" in dict(describe(assess(traits)))) is (len(engines) < 2)


def test_the_fused_layout_is_for_transformers_alone() -> None:
    traits = replace(LINEAR, layout=Layout.FUSED)
    assert in_loader(traits, Loader.TRANSFORMERS).support is Support.AS_IS
    assert in_loader(traits, Loader.VLLM).support is Support.NO
    assert in_loader(traits, Loader.SGLANG).support is Support.NO


def test_the_original_layout_needs_no_plugin() -> None:
    traits = replace(LINEAR, layout=Layout.CONV3D, fuses=False)
    assert {each.support for each in assess(traits)} == {Support.AS_IS}


def test_ollama_is_told_by_model_type() -> None:
    assert in_loader(replace(LINEAR, model_type="qwen3_5"), "Ollama").loads
    assert not in_loader(replace(LINEAR, model_type="glm_ocr"), "Ollama").loads
    assert "Ollama" not in {each.loader for each in assess(LINEAR)}


@pytest.mark.parametrize("layout", Layout)
def test_every_answer_has_a_reason_and_says_how_it_was_found_out(layout: Layout) -> None:
    for model_type, method, fuses in itertools.product(MODEL_TYPES, METHODS, (True, False)):
        traits = replace(LINEAR, model_type=model_type, layout=layout, method=method, fuses=fuses)
        answers = assess(traits)
        assert [each.loader for each in answers[:3]] == list(Loader)
        for each in answers:
            assert each.reason
            assert (each.evidence is not None) is (each.support is not Support.NOT_TRIED)
