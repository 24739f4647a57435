"""The programs that a checkpoint is made for, as a caller names them."""

from __future__ import annotations

import pytest

from conv2linear.checkpoint.loaders import ALL_LOADERS, Loader, parse_loaders
from conv2linear.errors import Conv2LinearError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("transformers", (Loader.TRANSFORMERS,)),
        ("vllm,sglang", (Loader.VLLM, Loader.SGLANG)),
        (" SGLang , vLLM,sglang ", (Loader.VLLM, Loader.SGLANG)),
        ("transformers,vllm,sglang", ALL_LOADERS),
    ],
)
def test_loaders_are_read_once_each_in_a_fixed_order(
    text: str, expected: tuple[Loader, ...]
) -> None:
    assert parse_loaders(text) == expected


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_no_loader_is_an_error_that_says_what_is_known(text: str) -> None:
    with pytest.raises(Conv2LinearError, match="no loader is named") as caught:
        parse_loaders(text)
    assert caught.value.hint == "name one or more of transformers, vllm, sglang"


def test_an_unknown_loader_is_named_with_what_is_known() -> None:
    with pytest.raises(Conv2LinearError, match="loader 'tgi' is not known") as caught:
        parse_loaders("vllm,tgi")
    assert caught.value.hint == "known are transformers, vllm, sglang"
