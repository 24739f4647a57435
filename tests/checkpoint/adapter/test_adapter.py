"""Tell an adapter of PEFT from a model."""

from __future__ import annotations

import pytest

from conv2linear.checkpoint.adapter.adapter import is_adapter


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], True),
        (["adapter_config.json", "adapter_model.bin", "README.md", "config.json"], True),
        (["adapter_config.json", "config.json", "model.safetensors"], False),
        (["adapter_config.json", "config.json", "model.safetensors.index.json"], False),
        (["config.json", "model.safetensors"], False),
        (["checkpoint-1/adapter_config.json"], False),
    ],
)
def test_an_adapter_is_told_from_a_model(files: list[str], expected: bool) -> None:
    assert is_adapter(files) is expected
