"""What `bench` measures: an image or a video, the patches it is cut into, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from conv2linear.checkpoint.model_types import Geometry

# Defaults of Glm4vImageProcessor and Glm4vVideoProcessor in transformers 5.23.
_MERGE_SIZE = 2
_MAX_IMAGE_PIXELS = 28 * 28 * 15_000
_MAX_VIDEO_PIXELS = 28 * 28 * 2 * 30_000


@dataclass(frozen=True)
class InputSize:
    """The size of an image (one frame) or a video in pixels."""

    name: str
    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class BenchInput(InputSize):
    """An image or a video, and the number of patches that the processor cuts it into."""

    patches: int


INPUT_SIZES = (
    InputSize("224²", 1, 224, 224),
    InputSize("448²", 1, 448, 448),
    InputSize("720p", 1, 720, 1280),
    InputSize("1080p", 1, 1080, 1920),
    InputSize("4K", 1, 2160, 3840),
    InputSize("720p, 10 s", 20, 720, 1280),  # at the 2 frames a second that GLM-4V samples
)


@dataclass(frozen=True)
class BenchLimits:
    """What is measured, and for how long.

    `budget_s` is for the timed runs of one layer on one input. An input on which one run would
    take longer than `longest_run_s` is left out. The vision tower gets a square image of
    `tower_side` patches along each side; None leaves it out. It is loaded `tower_starts` times in
    each layout, or less often where that would take longer than `tower_budget_s`, and once at
    least.
    """

    inputs: tuple[InputSize, ...] = INPUT_SIZES
    budget_s: float = 0.8
    longest_run_s: float = 5.0
    tower_side: int | None = 32  # a 448² image
    tower_starts: int = 3
    tower_budget_s: float = 45.0


QUICK_LIMITS = BenchLimits(inputs=INPUT_SIZES[:3], budget_s=0.1, tower_side=None)


def list_inputs(sizes: Iterable[InputSize], geometry: Geometry) -> tuple[BenchInput, ...]:
    """Return the images and videos with the number of their patches, the smallest first."""
    inputs = (
        BenchInput(
            size.name, size.frames, size.height, size.width, patches=count_patches(size, geometry)
        )
        for size in sizes
    )
    return tuple(sorted(inputs, key=lambda input_: input_.patches))


def count_patches(size: InputSize, geometry: Geometry) -> int:
    """Count the patches that GLM-4V's processors cut an image or a video into.

    Height and width become multiples of a merged patch, and shrink where frames, height and width
    give too many pixels. The formula is that of `smart_resize` in transformers'
    `models/glm4v/image_processing_glm4v.py`, with the limits that the processors default to. An
    image counts as one temporal patch. The processors enlarge what is tiny; this does not.
    """
    temporal, block = geometry.temporal_patch_size, _MERGE_SIZE * geometry.patch_size
    limit = _MAX_IMAGE_PIXELS if size.frames == 1 else _MAX_VIDEO_PIXELS
    frames = temporal if size.frames == 1 else size.frames
    rows, columns = round(size.height / block), round(size.width / block)
    if round(frames / temporal) * temporal * rows * columns * block**2 > limit:
        shrink = math.sqrt(frames * size.height * size.width / limit)
        rows, columns = int(size.height / shrink / block), int(size.width / shrink / block)
    return math.ceil(frames / temporal) * rows * columns * _MERGE_SIZE**2
