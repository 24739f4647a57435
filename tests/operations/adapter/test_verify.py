"""Verify a converted adapter, and find each fault that is planted in one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear import convert, inspect_checkpoint, verify
from conv2linear.errors import Conv2LinearError, EngineError
from conv2linear.operations.adapter.inspect import AdapterInspection
from conv2linear.operations.adapter.verify import ADAPTER_CHECKS
from tests.support.adapters import (
    COLUMNS,
    LINEAR_LAYER,
    OTHER,
    RANK,
    config_of,
    linear_shapes,
    other_shapes,
    save_adapter,
)
from tests.support.contents import snapshot
from tests.support.processes import RunCli

A = f"{LINEAR_LAYER}.lora_A.weight"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "adapter")


@pytest.fixture
def linear(adapter: Path, out: Path) -> Path:
    return convert(adapter, out).out


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **values: object) -> None:
    text = json.dumps({**config_of(folder), **values}, indent=2)
    (folder / "adapter_config.json").write_text(text)


def test_a_converted_adapter_is_sound(linear: Path, adapter: Path) -> None:
    before = snapshot(linear)
    alone = verify(linear)
    assert alone.verdict == "sound"
    assert [outcome.basis_patches for outcome in alone.equivalences] == [COLUMNS, RANK]
    whole = verify(linear, source=adapter, checksums=True)
    assert whole.verdict == "sound"
    assert [check.name for check in whole.checks] == [check.name for check in ADAPTER_CHECKS]
    assert snapshot(linear) == before


def test_without_record_and_source_nothing_is_called_sound(linear: Path, adapter: Path) -> None:
    (linear / "conv2linear.json").unlink()
    assert verify(linear).verdict == "no fault found, compared with nothing"
    assert verify(linear, source=adapter).verdict == "sound"


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (lambda t: t[A].view(-1)[0].add_(1), {"recorded tensors", "source"}),
        (lambda t: t.update({A: t[A][:, torch.randperm(COLUMNS)].contiguous()}), {"source"}),
        (lambda t: t[f"{OTHER}.lora_A.weight"].add_(1), {"recorded tensors", "source"}),
        (lambda t: t[A].view(-1)[0].fill_(torch.nan), {"finite", "source"}),
        (lambda t: t.pop(f"{OTHER}.lora_A.weight"), {"recorded tensors", "source"}),
    ],
    ids=["a value", "the order of columns", "another layer", "not finite", "missing"],
)
def test_another_tensor_is_found(
    linear: Path,
    adapter: Path,
    change: Callable[[dict[str, torch.Tensor]], object],
    failing: set[str],
) -> None:
    edit_tensors(linear, change)
    assert failing <= {check.name for check in verify(linear, source=adapter).failed}
    (linear / "conv2linear.json").unlink()
    assert "source" in {check.name for check in verify(linear, source=adapter).failed}


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": ["qkv", "proj"]},
        {"target_modules": ".*qkv"},
        {"rank_pattern": {"linear_proj": 7}},
        {"exclude_modules": ["linear_proj"]},
    ],
    ids=str,
)
def test_a_config_by_which_peft_drops_the_layer_is_found(
    linear: Path, adapter: Path, values: dict[str, object]
) -> None:
    edit_config(linear, **values)
    failed = {check.name for check in verify(linear, source=adapter).failed}
    assert {"targets", "recorded edits", "source"} <= failed


def test_a_changed_scale_is_found(linear: Path, adapter: Path) -> None:
    edit_config(linear, lora_alpha=9)
    failed = {check.name for check in verify(linear, source=adapter).failed}
    assert {"recorded edits", "source"} <= failed


def test_files_that_were_added_or_lost_are_found(linear: Path) -> None:
    (linear / "more.txt").write_text("x")
    assert [check.name for check in verify(linear).failed] == ["recorded files"]
    (linear / "more.txt").unlink()
    (linear / "README.md").unlink()
    assert [check.name for check in verify(linear).failed] == ["recorded files"]


def test_an_adapter_for_a_conv3d_is_not_called_one_for_a_linear_base(adapter: Path) -> None:
    verification = verify(adapter)
    assert verification.exit_code == 1
    assert [check.name for check in verification.failed] == ["layout"]


def test_what_is_asked_for_and_cannot_be_done_is_an_error(
    linear: Path, adapter: Path, checkpoint: Path
) -> None:
    with pytest.raises(EngineError, match="is an adapter"):
        verify(linear, engine="transformers")
    with pytest.raises(Conv2LinearError, match="is not an adapter"):
        verify(linear, source=checkpoint)
    with pytest.raises(Conv2LinearError, match="no checksums"):
        verify(adapter, checksums=True)


def test_an_adapter_that_spares_the_layer_is_verified_by_its_record(
    tmp_path: Path, out: Path
) -> None:
    spared = save_adapter(tmp_path / "spared", other_shapes())
    convert(spared, out)
    assert verify(out, source=spared).verdict == "sound"
    edit_tensors(out, lambda tensors: tensors[f"{OTHER}.lora_A.weight"].add_(1))
    assert "recorded tensors" in {check.name for check in verify(out).failed}


def test_inspect_says_what_an_adapter_has_of_the_layer(
    adapter: Path, linear: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    found = inspect_checkpoint(adapter)
    assert isinstance(found, AdapterInspection)
    assert (found.layout, found.peft_type, found.base) == ("conv3d", "LORA", "org/base")
    assert [(t.linear_name, t.linear_shape) for t in found.tensors] == [
        item for item in linear_shapes().items() if LINEAR_LAYER in item[0]
    ]
    assert found.full is not None
    sizes = [path.stat().st_size for path in linear.iterdir() if path.name != "conv2linear.json"]
    assert found.full.write_bytes == sum(sizes)
    again = inspect_checkpoint(linear)
    assert (again.layout, again.full) == ("linear", None)
    spared = inspect_checkpoint(save_adapter(tmp_path / "spared", other_shapes()))
    assert spared.layout is None
    done = run_cli("inspect", adapter, "--json")
    assert json.loads(done.stdout)["tensors"][0]["linear_shape"] == [RANK, COLUMNS]
    shutil.rmtree(tmp_path / "spared")
