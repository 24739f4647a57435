"""Convert an adapter: names, shapes and config change, and no byte of a tensor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear import convert, plan_conversion
from conv2linear.errors import CheckFailedError, Conv2LinearError, OutputError
from tests.support.adapters import (
    COLUMNS,
    KERNEL,
    LAYER,
    LINEAR_LAYER,
    OUTPUTS,
    RANK,
    Shapes,
    config_of,
    config_values,
    conv3d_shapes,
    linear_shapes,
    other_shapes,
    save_adapter,
)
from tests.support.contents import snapshot
from tests.support.processes import RunCli


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "adapter")


def test_tensors_are_renamed_and_flattened_and_their_values_stay(adapter: Path, out: Path) -> None:
    before = snapshot(adapter)
    conversion = convert(adapter, out)
    assert snapshot(adapter) == before
    source, found = (load_file(each / "adapter_model.safetensors") for each in (adapter, out))
    expected = {name.replace(".proj.", ".linear_proj."): t for name, t in source.items()}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor.flatten(1))
    assert {name: tuple(t.shape) for name, t in found.items()} == linear_shapes()
    assert [check.basis_patches for check in conversion.checks] == [COLUMNS, RANK]
    assert config_of(out)["target_modules"] == ["qkv", "proj", "patch_embed.linear_proj"]
    assert (out / "README.md").read_bytes() == (adapter / "README.md").read_bytes()


def test_all_that_an_adapter_may_have_of_the_layer_moves(tmp_path: Path, out: Path) -> None:
    shapes: Shapes = {
        **conv3d_shapes(),
        f"{LAYER}.lora_B.bias": (OUTPUTS,),
        f"{LAYER}.lora_magnitude_vector": (1, OUTPUTS, 1, 1, 1),
        f"{LAYER}.base_layer.bias": (OUTPUTS,),
    }
    convert(save_adapter(tmp_path / "adapter", shapes, use_dora=True), out)
    found = load_file(out / "adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        **linear_shapes(),
        f"{LINEAR_LAYER}.lora_B.bias": (OUTPUTS,),
        f"{LINEAR_LAYER}.lora_magnitude_vector": (OUTPUTS,),
        f"{LINEAR_LAYER}.base_layer.bias": (OUTPUTS,),
    }


@pytest.mark.parametrize("infix", ["", "modules_to_save.default."])
def test_a_full_copy_of_the_layer_moves(tmp_path: Path, out: Path, infix: str) -> None:
    copies: Shapes = {
        f"{LAYER}.{infix}weight": (OUTPUTS, *KERNEL),
        f"{LAYER}.{infix}bias": (OUTPUTS,),
        **other_shapes(),
    }
    options = {"target_modules": ["qkv"], "modules_to_save": ["patch_embed.proj"]}
    conversion = convert(save_adapter(tmp_path / "adapter", copies, **options), out)
    found = load_file(out / "adapter_model.safetensors")
    assert found[f"{LINEAR_LAYER}.{infix}weight"].shape == (OUTPUTS, COLUMNS)
    assert found[f"{LINEAR_LAYER}.{infix}bias"].shape == (OUTPUTS,)
    assert config_of(out)["modules_to_save"] == ["patch_embed.linear_proj"]
    assert len(conversion.checks) == 1


def test_an_adapter_that_spares_the_layer_is_copied_and_that_is_said(
    tmp_path: Path, out: Path, run_cli: RunCli
) -> None:
    adapter = save_adapter(tmp_path / "adapter", other_shapes(), peft_type="IA3")
    done = run_cli("convert", adapter, out)
    assert done.code == 0, done.stderr
    assert "nothing of the patch embedding" in done.stdout
    assert {name for name in snapshot(out) if name != "conv2linear.json"} == set(snapshot(adapter))
    for path in adapter.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert run_cli("verify", out).code == 0


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(
    adapter: Path, out: Path, run_cli: RunCli
) -> None:
    done = run_cli("convert", adapter, out, "--dry-run", "--json")
    assert done.code == 0, done.stderr
    files = {file["name"]: file for file in json.loads(done.stdout)["files"]}
    assert files["adapter_model.safetensors"]["action"] == "reshape"
    assert files["adapter_config.json"]["action"] == "edit"
    assert not out.exists()
    convert(adapter, out)
    for name, file in files.items():
        assert (out / name).stat().st_size == file["size_bytes"]


def test_force_replaces_an_adapter_and_no_model(adapter: Path, out: Path, checkpoint: Path) -> None:
    convert(adapter, out)
    with pytest.raises(OutputError, match="exists"):
        convert(adapter, out)
    convert(adapter, out, force=True)
    before = snapshot(checkpoint)
    with pytest.raises(OutputError, match="model type"):
        convert(adapter, checkpoint, force=True)
    with pytest.raises(OutputError, match="PEFT adapter"):
        convert(checkpoint, out, force=True)
    assert snapshot(checkpoint) == before


def test_no_output_is_left_where_a_value_is_not_finite(tmp_path: Path, out: Path) -> None:
    for part in ("lora_A.weight", "lora_magnitude_vector"):
        adapter = save_adapter(
            tmp_path / part,
            {**conv3d_shapes(), f"{LAYER}.lora_magnitude_vector": (1, OUTPUTS, 1, 1, 1)},
        )
        tensors = load_file(adapter / "adapter_model.safetensors")
        tensors[f"{LAYER}.{part}"].view(-1)[0] = torch.nan
        save_file(tensors, adapter / "adapter_model.safetensors")
        with pytest.raises(CheckFailedError):
            convert(adapter, out)
        assert not list(out.parent.iterdir())


def test_what_cannot_be_converted_beside_it_is_named(adapter: Path, out: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(b"pickle")
    (adapter / "other").mkdir()
    (adapter / "other" / "adapter_config.json").write_text("{}")
    warnings = plan_conversion(adapter).warnings
    assert any("adapter_model.bin" in warning for warning in warnings)
    assert any("other/adapter_config.json" in warning for warning in warnings)


def test_a_base_that_is_here_must_fit(tmp_path: Path, out: Path, checkpoint: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base_model_name_or_path=str(checkpoint))
    with pytest.raises(Conv2LinearError, match="does not fit the patch embedding"):
        convert(adapter, out)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "model_type": "qwen2_vl"}))
    with pytest.raises(Conv2LinearError, match="'qwen2_vl'"):
        convert(adapter, out)
    (checkpoint / "config.json").write_text("not JSON")
    convert(adapter, out)


def shapes_with(*, without: str = "", **changed: tuple[int, ...]) -> Shapes:
    shapes = {n: s for n, s in conv3d_shapes().items() if not (without and without in n)}
    return shapes | {f"{LAYER}.{part.replace('__', '.')}": s for part, s in changed.items()}


@pytest.mark.parametrize(
    ("shapes", "values", "message"),
    [
        (None, {"peft_type": "LOHA"}, "type LOHA on the patch embedding"),
        (None, {"peft_type": None}, "no peft_type"),
        (None, {"target_modules": 3}, "target_modules is not a list of names"),
        (None, {"rank_pattern": ["proj"]}, "rank_pattern is not an object of numbers"),
        (
            None,
            {"auto_mapping": {"parent_library": "transformers.models.llama.modeling_llama"}},
            "'llama', which is not supported",
        ),
        (None, {"use_qalora": True}, "use_qalora"),
        (shapes_with(hada_w1_a=(4, 4)), {}, "not a tensor that a LoRA has"),
        (shapes_with(lora_A__weight=(4, 3, 14, 14)), {}, "not of a conv3d patch embedding"),
        (shapes_with(lora_A__weight=(4, 3, 2, 4, 5)), {}, "not of a conv3d patch embedding"),
        (shapes_with(lora_A__weight=(4, 96)), {}, "not of a conv3d patch embedding"),
        (shapes_with(lora_B__weight=(8, 4, 1, 1, 2)), {}, "not of a conv3d patch embedding"),
        (shapes_with(lora_B__weight=(8, 5, 1, 1, 1)), {}, "has rank 4, .* has rank 5"),
        (shapes_with(lora_B__bias=(9,)), {}, "outputs of one layer differ"),
        (shapes_with(without="lora_B"), {}, "lora_B is missing"),
        (shapes_with(without="proj.lora_A"), {}, "lora_A is missing"),
        ({**conv3d_shapes(), **linear_shapes()}, {}, "several layouts"),
        (linear_shapes(), {}, "already, nothing to convert"),
    ],
    ids=str,
)
def test_an_adapter_that_cannot_be_converted_is_told_why(
    tmp_path: Path,
    out: Path,
    run_here: RunCli,
    shapes: Shapes | None,
    values: dict[str, Any],
    message: str,
) -> None:
    adapter = save_adapter(tmp_path / "adapter", shapes, **values)
    done = run_here("convert", adapter, out)
    assert done.code == 2
    error, hint, *rest = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert not rest or rest == [""]
    assert re.search(message, error), error
    assert hint.startswith("hint: ")
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"peft_type": "LORA", "peft_type": "IA3"}'])
def test_a_config_that_is_none_is_refused(adapter: Path, out: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(Conv2LinearError, match=r"adapter_config\.json"):
        convert(adapter, out)


def test_pickled_weights_are_told_what_they_are_and_never_opened(
    tmp_path: Path, out: Path, run_here: RunCli
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps(config_values()))
    (adapter / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    for command in (("convert", adapter, out), ("inspect", adapter), ("restore", adapter, out)):
        done = run_here(*command)
        assert done.code == 2
        assert "pickled adapter_model.bin" in done.stderr
        assert "hint: pickled weights are never opened" in done.stderr
    assert run_here("verify", adapter).code == 1


def test_an_adapter_has_no_overlay(adapter: Path, out: Path) -> None:
    with pytest.raises(Conv2LinearError, match="always written whole"):
        convert(adapter, out, changed_only=True)
