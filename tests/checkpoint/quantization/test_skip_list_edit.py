"""A list of modules to skip that is made anew, from what the shards have in full precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv2linear.checkpoint.checkpoint import open_checkpoint
from conv2linear.checkpoint.quantization.skip_list_audit import audit_skip_list
from conv2linear.checkpoint.quantization.skip_list_edit import (
    LOOSE_ENTRY,
    edit_skip_list,
    plan_skip_list,
)
from tests.support.quantized_models import save_fp8_model


@pytest.mark.parametrize(
    ("kept", "entries"),
    [
        (("blocks.0.attn.qkv",), {"visual.blocks.0.attn.qkv"}),
        (
            ("self_attn.o_proj",),
            {f"language_model.layers.{number}.self_attn.o_proj" for number in (0, 1)},
        ),
    ],
)
def test_has_the_layers_in_full_precision_and_no_others(
    tmp_path: Path, kept: tuple[str, ...], entries: set[str]
) -> None:
    folder = save_fp8_model(tmp_path / "model", skipped=["lm_head", *kept], listed=[])
    checkpoint = open_checkpoint(folder)
    edit = plan_skip_list(checkpoint.config, checkpoint.headers)
    assert set(edit.entries) == {"lm_head", *entries, LOOSE_ENTRY}
    assert edit.creates
    assert edit.from_headers
    assert edit.refusal_reason is None
    config = edit_skip_list(checkpoint.config, edit)
    assert audit_skip_list(config, checkpoint.headers).problem is None
