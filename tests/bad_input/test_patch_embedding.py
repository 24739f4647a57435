"""A patch embedding that is not a Conv3d kernel with its bias is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.checkpoints import BIAS, WEIGHT
from tests.support.contents import shard_with, snapshot
from tests.support.damage import (
    replace_tensor,
)
from tests.support.processes import Refuse, RunCli


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(128, 3, 14, 14), "Conv2d kernel [128, 3, 14, 14]"),
        (torch.zeros(128, 3, 392), "expected 5-D or 2-D"),
        (torch.zeros(()), "expected 5-D or 2-D"),
        (torch.zeros(128, 3, 2, 14, 13), "config.json says"),
        (torch.zeros(128, 2, 3, 14, 14), "config.json says"),
        (torch.zeros(128, 1175), "config.json says"),
        (torch.zeros(128, 3, 2, 14, 14, dtype=torch.float64), "dtype F64"),
        (torch.zeros(128, 3, 2, 14, 14, dtype=torch.int8), "dtype I8"),
        (torch.zeros(128, 3, 2, 14, 14).to(torch.float8_e4m3fn), "dtype F8_E4M3"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else f"{list(value.shape)}",
)
def test_a_weight_that_is_not_such_a_kernel(
    checkpoint: Path, refuse: Refuse, tensor: torch.Tensor, words: str
) -> None:
    replace_tensor(checkpoint, WEIGHT, tensor)
    refuse(WEIGHT, words)


def test_no_patch_embedding(checkpoint: Path, refuse: Refuse) -> None:
    replace_tensor(checkpoint, WEIGHT, None)
    refuse("no patch_embed.proj.weight")


def test_no_bias(checkpoint: Path, refuse: Refuse) -> None:
    replace_tensor(checkpoint, BIAS, None)
    refuse(BIAS, "missing")


@pytest.mark.parametrize(
    "bias", [torch.zeros(127).bfloat16(), torch.zeros(128), torch.zeros(1, 128)]
)
def test_a_bias_that_does_not_fit(checkpoint: Path, refuse: Refuse, bias: torch.Tensor) -> None:
    replace_tensor(checkpoint, BIAS, bias)
    refuse(BIAS, "expected BF16 [128]")


def test_two_layouts_in_one_checkpoint(checkpoint: Path, refuse: Refuse) -> None:
    weight = torch.zeros(128, 1176).bfloat16()
    bias = torch.zeros(128).bfloat16()
    replace_tensor(checkpoint, "lm_head.weight", weight, new_name="visual.patch_embed.proj.weight")
    name = "model.language_model.norm.weight"
    replace_tensor(checkpoint, name, bias, new_name="visual.patch_embed.proj.bias")
    refuse("several layouts: conv3d, linear")


def test_a_checkpoint_that_is_linear_already(
    checkpoint: Path, out: Path, tmp_path: Path, run_here: RunCli
) -> None:
    assert run_here("convert", checkpoint, tmp_path / "linear", "--device", "cpu").code == 0
    before = snapshot(tmp_path / "linear")
    done = run_here("convert", tmp_path / "linear", out)
    done.assert_refused("linear already, nothing to convert")
    assert "verify" in done.stderr
    assert list(out.parent.iterdir()) == []
    assert snapshot(tmp_path / "linear") == before


@pytest.mark.parametrize("name", [WEIGHT, BIAS])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_fails_the_check(
    checkpoint: Path, refuse: Refuse, name: str, value: float
) -> None:
    tensor = load_file(shard_with(checkpoint, name))[name]
    tensor.view(-1)[100] = value
    replace_tensor(checkpoint, name, tensor)
    refuse(WEIGHT, f"is {value} at [", code=1)


@pytest.mark.parametrize("sibling", ["weight_scale", "weight_scale_inv", "weight_packed"])
def test_a_patch_embedding_that_is_quantized_itself(
    checkpoint: Path, refuse: Refuse, sibling: str
) -> None:
    name = f"model.visual.patch_embed.proj.{sibling}"
    replace_tensor(checkpoint, "lm_head.weight", torch.ones(1), new_name=name)
    refuse("quantised itself", name)
