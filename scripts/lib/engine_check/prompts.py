"""The requests that every engine answers: one prompt about each of two images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

PROMPT = "<|user|><|begin_of_image|><|image|><|end_of_image|>What is this?<|assistant|>"
MAX_TOKENS = 8

Answer = dict[str, Any]
"""`tokens`, and `logprobs`: for each token those of the likeliest tokens, by id.

Of a process without a language model it is `embedding`, the hash of what it makes of an image.
"""


def agree(answers: Sequence[Answer]) -> Answer:
    """Return the answer of several workers, who have to say the same."""
    if any(answer != answers[0] for answer in answers):
        raise SystemExit(f"the workers say different things: {answers}")
    return answers[0]


def write_answers(output: str, ask: Callable[[Image.Image], Answer]) -> None:
    """Ask about each image and write the answers as JSON."""
    answers = {name: ask(image) for name, image in _make_images().items()}
    Path(output).write_text(json.dumps(answers))


def _make_images() -> dict[str, Image.Image]:
    """Make a colour gradient and a checkerboard of 112 x 112 pixels: 16 image tokens each."""
    gradient = Image.new("RGB", (112, 112))
    checker = Image.new("RGB", (112, 112))
    for x in range(112):
        for y in range(112):
            gradient.putpixel((x, y), (2 * x, 2 * y, 255 - 2 * x))
            checker.putpixel((x, y), (255, 255, 255) if (x // 7 + y // 7) % 2 else (0, 0, 0))
    return {"gradient": gradient, "checker": checker}
