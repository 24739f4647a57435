"""What an engine built is compared with the file in every bit, and run; each way to be wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from conv2linear.checkpoint.config import ModelConfig, parse_config
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.built_layer import BuiltLayer, compare_built, sample_for
from conv2linear.operations.verify.engine_input import StoredProjection, find_input
from conv2linear.operations.verify.subject import open_subject

NUMBERS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@pytest.fixture(scope="module")
def stored(converted: tuple[Path, Path]) -> StoredProjection:
    (projection,) = find_input(open_subject(converted[1])).read_projections()
    return projection


@pytest.fixture(scope="module")
def config(converted: tuple[Path, Path]) -> ModelConfig:
    return parse_config((converted[1] / "config.json").read_text())


def build(
    stored: StoredProjection, config: ModelConfig, *, dtype: torch.dtype = torch.bfloat16
) -> BuiltLayer:
    """Build the layer as an engine should: from the file's numbers, run on the patches."""
    samples = sample_for(stored, config)
    assert samples is not None
    assert stored.bias is not None
    weight = torch.frombuffer(bytearray(stored.weight.content), dtype=NUMBERS[stored.weight.dtype])
    bias = torch.frombuffer(bytearray(stored.bias.content), dtype=NUMBERS[stored.bias.dtype])
    linear = weight.reshape(stored.weight.shape).to(dtype)
    output = functional.linear(samples.together.to(dtype), linear, bias.to(dtype))
    kernel = linear.reshape(config.geometry.kernel_shape)
    return BuiltLayer("Conv3dLayer", kernel, bias.to(dtype), output)


def compare(stored: StoredProjection, config: ModelConfig, built: BuiltLayer) -> str:
    return compare_built(stored, built, sample_for(stored, config))


def test_the_files_numbers_and_an_output_within_its_bound_pass(
    stored: StoredProjection, config: ModelConfig
) -> None:
    found = compare(stored, config, build(stored, config))
    assert found.startswith(
        "builds Conv3dLayer bfloat16 [128, 3, 2, 14, 14] with the file's values, output of 340 "
        "patches within "
    )


def test_numbers_that_the_engine_casts_are_compared_as_cast(
    stored: StoredProjection, config: ModelConfig
) -> None:
    found = compare(stored, config, build(stored, config, dtype=torch.float16))
    assert "float16 [128, 3, 2, 14, 14] with the file's values, cast from BF16, output" in found


def test_one_bit_of_one_weight_is_found(stored: StoredProjection, config: ModelConfig) -> None:
    built = build(stored, config)
    built.weight.view(torch.int16)[5, 1, 1, 7, 3] ^= 1
    with pytest.raises(CheckFailedError, match=r"1 of the 150528 values of the weight are not"):
        compare(stored, config, built)


def test_a_zero_of_the_other_sign_is_found(stored: StoredProjection, config: ModelConfig) -> None:
    """Numbers that are equal and have not the same bits."""
    content = bytes(2) + stored.weight.content[2:]
    zero = replace(stored, weight=replace(stored.weight, content=content))
    built = build(zero, config)
    built.weight[0, 0, 0, 0, 0] = -0.0
    with pytest.raises(CheckFailedError, match="1 of the"):
        compare(zero, config, built)


def test_one_bit_of_the_bias_is_found(stored: StoredProjection, config: ModelConfig) -> None:
    built = build(stored, config)
    assert built.bias is not None
    built.bias.view(torch.int16)[7] ^= 1
    with pytest.raises(CheckFailedError, match="1 of the 128 values of the bias"):
        compare(stored, config, built)


def test_a_layer_that_was_left_random_is_named_as_such(
    stored: StoredProjection, config: ModelConfig
) -> None:
    built = build(stored, config)
    built.weight.normal_()
    with pytest.raises(CheckFailedError, match="as if it had never been loaded"):
        compare(stored, config, built)


def test_a_weight_of_other_sizes_is_named_with_both(
    stored: StoredProjection, config: ModelConfig
) -> None:
    built = build(stored, config)
    for weight in (built.weight[:64], built.weight.flatten(1).t()):
        with pytest.raises(CheckFailedError, match=r"weight \[(64|1176).* is \[128, 1176\]"):
            compare(stored, config, replace(built, weight=weight))


def test_a_bias_on_one_side_only_is_found(stored: StoredProjection, config: ModelConfig) -> None:
    built = build(stored, config)
    with pytest.raises(CheckFailedError, match="without bias, and the file has one"):
        compare(stored, config, replace(built, bias=None))
    with pytest.raises(CheckFailedError, match="with a bias, and the file has none"):
        compare(replace(stored, bias=None), config, built)


def test_an_output_beyond_its_bound_is_found_where_the_values_are_right(
    stored: StoredProjection, config: ModelConfig
) -> None:
    built = build(stored, config)
    assert built.output is not None
    for wrong in (built.output * 1.1, built.output.roll(1, dims=1), built.output * torch.nan):
        with pytest.raises(CheckFailedError, match="exceeds its error bound"):
            compare(stored, config, replace(built, output=wrong))
    with pytest.raises(CheckFailedError, match="an output"):
        compare(stored, config, replace(built, output=built.output[:, :64]))


def test_a_quantised_weight_that_an_engine_takes_all_the_same_is_found(
    stored: StoredProjection, config: ModelConfig
) -> None:
    content = stored.weight.content[: len(stored.weight.content) // 2]
    weight = replace(stored.weight, dtype="F8_E4M3", content=content)
    quantised = replace(stored, weight=weight)
    assert sample_for(quantised, config) is None
    with pytest.raises(CheckFailedError, match="F8_E4M3 and of no use without its scale"):
        compare_built(quantised, replace(build(stored, config), output=None), None)
