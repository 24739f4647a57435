"""An entry of a skip list covers what transformers and compressed-tensors take it to cover."""

from __future__ import annotations

import re

import pytest
from compressed_tensors.utils import is_match
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.quantizers.quantizers_utils import should_convert_module

from conv2linear.checkpoint.model_types import LINEAR_MODULE
from conv2linear.checkpoint.quantization.methods import METHODS
from conv2linear.checkpoint.quantization.quantization import Quantization
from conv2linear.checkpoint.quantization.skip_list import covers, ends_soon, exact_entry
from conv2linear.checkpoint.quantization.skip_list_edit import LOOSE_ENTRY, REGEX_ENTRY
from tests.support.installed import need_transformers_of_the_tables

NAMES = ["model", "visual", "model.visual", "patch_embed", "linear_proj", "proj", "lm_head", "l"]
CLASSES = ["Linear", "Module"]
SYNTAX = ["re:", ".", r"\.", ".*", "$", "^", "|", "(", ")", "*", "+", "_", "["]
ENTRIES = st.lists(st.sampled_from([*NAMES, *CLASSES, *SYNTAX]), max_size=6).map("".join)


def is_skipped_by(method: str, entry: str) -> bool:
    return covers(Quantization(method, (), {METHODS[method].list_fields[0]: [entry]}))


@pytest.mark.filterwarnings("ignore:Possible nested set")
@settings(max_examples=1000, deadline=None)
@given(ENTRIES)
@example("model.visual")
@example("model.visual.patch_embed")
@example("model.visual.patch_embed.proj")
@example("model.visual.patch_embed.linear")
@example("visual")
@example("linear_proj")
@example("proj")
@example("lm_head|model.visual")
@example("")
@example(")(")
@example(REGEX_ENTRY)
def test_a_list_of_modules_covers_what_transformers_would_not_convert(entry: str) -> None:
    need_transformers_of_the_tables()
    try:
        expected = not should_convert_module(LINEAR_MODULE, [entry])
    except re.error:
        expected = False  # transformers stops there: nothing is covered
    if ends_soon(entry):  # what might not end is never tried, and covers nothing
        assert is_skipped_by("fp8", entry) == expected


@pytest.mark.filterwarnings("ignore:Possible nested set")
@settings(max_examples=1000, deadline=None)
@given(ENTRIES)
@example("model.visual")
@example(LINEAR_MODULE)
@example("Linear")
@example("linear_proj")
@example("re:model.visual")
@example("re:.*proj")
@example("re:visual")
@example("re:)(")
@example(REGEX_ENTRY)
def test_an_ignore_list_covers_what_compressed_tensors_would_not_quantize(entry: str) -> None:
    try:
        expected = is_match(LINEAR_MODULE, nn.Linear(1, 1), entry)
    except re.error:
        expected = False
    assert is_skipped_by("compressed-tensors", entry) == expected


BASE_MODULE = LINEAR_MODULE.removeprefix("model.")  # as AutoModel names it
OTHER_MODULES = ("model.visual.blocks.0.attn.proj", "model.visual.merger.proj", "lm_head")


def test_our_entries_cover_the_linear_layer_where_they_are_added() -> None:
    for entry in (LINEAR_MODULE, REGEX_ENTRY):
        assert is_match(LINEAR_MODULE, nn.Linear(1, 1), entry)
    assert is_match(BASE_MODULE, nn.Linear(1, 1), REGEX_ENTRY)
    for other in OTHER_MODULES:
        assert not is_match(other, nn.Linear(1, 1), [LINEAR_MODULE, REGEX_ENTRY])


@pytest.mark.parametrize(
    "module", [LINEAR_MODULE, BASE_MODULE, "model.vision_model.patch_embed.linear_proj"]
)
def test_the_suffix_holds_however_the_model_is_loaded(module: str) -> None:
    assert not should_convert_module(module, [LOOSE_ENTRY])
    assert all(should_convert_module(other, [LOOSE_ENTRY]) for other in OTHER_MODULES)


@pytest.mark.parametrize("target", ["Embedding", "Linear", "Module", "object", "re:.*embed.*"])
def test_a_target_means_the_embeddings_that_compressed_tensors_takes(target: str) -> None:
    name, module = "model.language_model.embed_tokens", nn.Embedding(1, 1)
    matches = exact_entry(target).matches(name, ("Embedding", "Module"))
    assert matches == is_match(name, module, target)


@pytest.mark.parametrize(
    "entry", ["(model)+", "(model){1}", "(?i)model", "m" + "o?" * 40, "|".join(["model"] * 400)]
)
def test_a_pattern_that_might_not_end_is_not_tried_and_covers_nothing(entry: str) -> None:
    assert not ends_soon(entry)
    assert re.match(entry, LINEAR_MODULE)  # though it would
    assert not is_skipped_by("fp8", f"{entry}.*")
