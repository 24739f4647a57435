"""The checks that look at the files alone, each called by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert, verify
from conv2linear.errors import BadCheckpointError, CheckFailedError
from conv2linear.operations.verify.layout import (
    check_config,
    check_files,
    check_layout,
    check_quantization,
)
from conv2linear.operations.verify.needs import SkippedError
from conv2linear.operations.verify.subject import Subject, open_subject
from tests.support.checkpoints import WEIGHT
from tests.support.contents import shard_with, shards_of
from tests.support.damage import edit_json
from tests.support.models import TinyModel


def test_each_check_says_what_it_found(linear: Path) -> None:
    subject = open_subject(linear)
    assert check_files(subject).startswith(f"{len(shards_of(linear))} shards with ")
    assert check_files(subject).endswith(", as the index says; headers sound")
    assert check_layout(subject) == f"{WEIGHT} BF16 [128, 1176] with bias, as config.json says"
    assert check_config(subject) == "fusion_config.patch_embeddings is on"
    assert check_quantization(subject) == "not quantised"


def test_files_of_an_overlay_have_no_index(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "overlay", device="cpu", changed_only=True)
    assert "as far as this overlay has them" in check_files(open_subject(tmp_path / "overlay"))


def test_files_that_cannot_be_opened_fail_one_check_and_skip_the_others(linear: Path) -> None:
    shard_with(linear, WEIGHT).write_bytes(b"")
    subject = open_subject(linear)
    with pytest.raises(BadCheckpointError):
        check_files(subject)
    for check in (check_layout, check_config, check_quantization):
        with pytest.raises(SkippedError, match="the files are not sound"):
            check(subject)


def test_a_conv3d_layout_fails_and_names_what_was_expected(source: Path) -> None:
    subject = open_subject(source)
    with pytest.raises(CheckFailedError, match="conv3d kernel, expected a linear weight"):
        check_layout(subject)
    with pytest.raises(CheckFailedError, match=r"fusion_config\.patch_embeddings is not true"):
        check_config(subject)


def quantize(folder: Path, method: str) -> Subject:
    values = {"quant_method": method}
    edit_json(folder / "config.json", lambda c: c.update(quantization_config=values))
    return open_subject(folder)


def test_a_method_that_leaves_the_layer_alone_passes(linear: Path) -> None:
    found = check_quantization(quantize(linear, "gptq"))
    assert found == "gptq does not touch the patch embedding"


def test_a_method_that_nobody_knows_is_skipped(linear: Path) -> None:
    with pytest.raises(SkippedError, match="it is not known how unheard_of chooses layers"):
        check_quantization(quantize(linear, "unheard_of"))


def test_a_skip_list_without_the_layer_fails(tiny_model: TinyModel, tmp_path: Path) -> None:
    convert(tiny_model("glm4v", quantized="float"), tmp_path / "linear", device="cpu")
    assert verify(tmp_path / "linear", device="cpu").passed

    def empty(config: dict[str, Any]) -> None:
        config["quantization_config"]["ignore"] = ["lm_head"]

    edit_json(tmp_path / "linear" / "config.json", empty)
    verification = verify(tmp_path / "linear", device="cpu")
    assert "quantization" in {c.name for c in verification.failed}
