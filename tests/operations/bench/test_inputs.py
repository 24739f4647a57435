"""An input counts as many patches as transformers' own processors make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor

from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.operations.bench.inputs import INPUT_SIZES, InputSize, count_patches, list_inputs

GEOMETRY = MODEL_TYPES["glm4v_moe"].geometry({})


@given(height=st.integers(150, 6000), width=st.integers(150, 6000))
def test_an_image_counts_as_many_patches_as_the_processor_makes(height: int, width: int) -> None:
    made = Glm4vImageProcessorPil().get_number_of_image_patches(height, width)
    assert count_patches(InputSize("image", 1, height, width), GEOMETRY) == made


COUNTS_VIDEOS = hasattr(Glm4vVideoProcessor, "get_num_of_video_patches")


@pytest.mark.skipif(not COUNTS_VIDEOS, reason="this transformers counts no patches of a video")
@given(frames=st.integers(2, 600), height=st.integers(150, 2400), width=st.integers(150, 4000))
def test_a_video_counts_as_many_patches_as_the_processor_makes(
    frames: int, height: int, width: int
) -> None:
    made = Glm4vVideoProcessor().get_num_of_video_patches(frames, height, width)
    assert count_patches(InputSize("video", frames, height, width), GEOMETRY) == made


def test_the_inputs_reach_from_224_squared_to_4k_and_a_video() -> None:
    inputs = list_inputs(INPUT_SIZES, GEOMETRY)
    assert [input_.patches for input_ in inputs] == [256, 1024, 4784, 10764, 29440, 47840]
    assert inputs[-1].frames > 1
