"""The audit of a skip list names the layers that transformers loads wrongly, and no others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conv2linear.checkpoint.checkpoint import open_checkpoint
from conv2linear.checkpoint.config import ModelConfig, parse_config
from conv2linear.checkpoint.header import Header, TensorInfo
from conv2linear.checkpoint.quantization.skip_list_audit import (
    SkipListAudit,
    audit_skip_list,
    summarise_modules,
)
from tests.support.damage import edit_json
from tests.support.loading_info import read_loading_info
from tests.support.models import TinyModel
from tests.support.quantized_models import save_bitsandbytes_model, save_fp8_model

# As GLM-4.5V-FP8 lists them: without `model.`, and by a name that the module does not have.
WRONG_ENTRIES = [f"visual.blocks.{n}.attn.qkv_proj" for n in range(2)]
VISION_QKV = {f"model.visual.blocks.{n}.attn.qkv" for n in range(2)}
STORED = ("lm_head", r"re:.*visual.*\.qkv$")  # what the tiny model has in full precision


def audit(folder: Path) -> SkipListAudit:
    checkpoint = open_checkpoint(folder)
    return audit_skip_list(checkpoint.config, checkpoint.headers)


def listing(source: Path, folder: Path, names: Sequence[str], field: str = "ignore") -> Path:
    """Copy a checkpoint, and give it another list of modules to skip."""
    shutil.copytree(source, folder)
    edit_json(folder / "config.json", lambda c: c["quantization_config"].update({field: names}))
    return folder


def assert_transformers_agrees(
    folder: Path, found: SkipListAudit, *, as_on_gpu: bool = False
) -> None:
    loaded = read_loading_info(folder, as_on_gpu=as_on_gpu)
    assert set(found.quantized_on_load) == loaded.missing_scales
    assert set(found.not_dequantized) == loaded.unexpected_scales


@pytest.fixture
def source(tiny_model: TinyModel) -> Path:
    return tiny_model(quantized="float", ignore=STORED)


def test_a_list_that_names_no_module_is_named_with_the_layers_and_what_would_mend_it(
    source: Path, tmp_path: Path
) -> None:
    folder = listing(source, tmp_path / "model", ["lm_head", *WRONG_ENTRIES])
    found = audit(folder)
    assert set(found.quantized_on_load) == VISION_QKV
    assert found.not_dequantized == ()
    assert_transformers_agrees(folder, found)
    assert found.problem == (
        "config.json, quantization_config.ignore: 2 layers, model.visual.blocks.*.attn.qkv (the "
        "first is model.visual.blocks.0.attn.qkv), are stored in full precision and would be "
        r"quantised on load (add the entry 're:.*\\.visual\\.blocks\\.\\d+\\.attn\\.qkv$')"
    )
    mended = ["lm_head", *WRONG_ENTRIES, *found.missing_entries]
    again = listing(source, tmp_path / "mended", mended)
    assert audit(again).problem is None
    assert_transformers_agrees(again, audit(again))


def test_a_layer_that_is_skipped_though_it_has_a_scale_is_named_with_the_entry(
    source: Path, tmp_path: Path
) -> None:
    entry = "model.language_model.layers.0.self_attn.q_proj"
    folder = listing(source, tmp_path / "model", [*STORED, entry])
    found = audit(folder)
    assert found.not_dequantized == (entry,)
    assert found.wrong_entries == (entry,)
    assert found.quantized_on_load == ()
    assert f"(remove the entry {entry!r})" in str(found.problem)
    assert_transformers_agrees(folder, found)


def test_experts_and_routers_are_no_layers_that_compressed_tensors_takes(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    source = tiny_model("glm4v_moe", quantized="float", ignore=STORED)
    assert audit(source).problem is None
    folder = listing(source, tmp_path / "model", ["lm_head", *WRONG_ENTRIES])
    found = audit(folder)
    assert set(found.quantized_on_load) == VISION_QKV
    assert_transformers_agrees(folder, found)


@pytest.mark.parametrize("kind", ["float", "int", "int4"])
def test_a_list_that_is_right_is_not_found_fault_with(tiny_model: TinyModel, kind: str) -> None:
    found = audit(tiny_model(quantized=kind))
    assert found.problem is None
    assert found.layer_count > 20


def test_a_regex_that_would_take_quantised_layers_too_is_not_proposed(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    stored = [f"model.language_model.layers.{n}.self_attn.q_proj" for n in (0, 1)]
    source = tiny_model(quantized="float", ignore=["lm_head", *stored, "re:.*blocks.0.attn.qkv$"])
    found = audit(listing(source, tmp_path / "model", ["lm_head"]))
    assert found.missing_entries == (
        r"re:.*\.language_model\.layers\.\d+\.self_attn\.q_proj$",
        "model.visual.blocks.0.attn.qkv",
    )


def test_fp8_takes_on_a_gpu_what_the_audit_names(tmp_path: Path) -> None:
    skipped = ["lm_head", "blocks.0.attn.qkv", "blocks.1.attn.qkv"]
    listed = ["lm_head", *WRONG_ENTRIES, "model.language_model.layers.1.self_attn.o_proj"]
    folder = save_fp8_model(tmp_path / "model", skipped=skipped, listed=listed)
    found = audit(folder)
    assert set(found.quantized_on_load) == VISION_QKV
    assert found.not_dequantized == ("model.language_model.layers.1.self_attn.o_proj",)
    assert_transformers_agrees(folder, found, as_on_gpu=True)
    (entry,) = found.missing_entries
    mended = listing(folder, tmp_path / "mended", ["lm_head", entry], "modules_to_not_convert")
    assert audit(mended).problem is None


def test_bitsandbytes_is_audited_by_what_has_statistics_beside_it(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    source = save_bitsandbytes_model(tmp_path / "source", tiny_model(), skipped=None)
    assert audit(source).problem is None
    skipped = ["lm_head", "model.visual"]
    source = save_bitsandbytes_model(tmp_path / "other", tiny_model(), skipped=skipped)
    folder = listing(source, tmp_path / "model", ["lm_head"], "llm_int8_skip_modules")
    found = audit(folder)
    assert set(found.quantized_on_load) >= VISION_QKV
    assert all(".visual." in name for name in found.quantized_on_load)


def config_of(**quantization: Any) -> ModelConfig:
    return parse_config(json.dumps({"model_type": "glm4v", "quantization_config": quantization}))


def headers_of(**tensors: tuple[str, tuple[int, ...]]) -> dict[str, Header]:
    infos = {
        name.replace("__", "."): TensorInfo(dtype, shape, (0, 0))
        for name, (dtype, shape) in tensors.items()
    }
    return {"model.safetensors": Header("{}", infos)}


@pytest.mark.parametrize(
    "method", ["gptq", "torchao", "hqq", "quark", "auto-round", "modelopt", "tomorrow's"]
)
def test_a_method_whose_rules_are_not_known_is_said_to_be_unknown(method: str) -> None:
    found = audit_skip_list(config_of(quant_method=method), {})
    assert found.problem is None
    assert method in str(found.unknown_reason)


def test_a_pattern_that_might_not_end_makes_the_audit_unknown() -> None:
    config = config_of(quant_method="compressed-tensors", ignore=["re:(a+)+$"])
    assert "(a+)+" in str(audit_skip_list(config, {}).unknown_reason)


def test_what_is_dequantised_on_load_has_nothing_to_audit() -> None:
    config = config_of(quant_method="compressed-tensors", ignore=[], run_compressed=False)
    assert "dequantise every layer" in str(audit_skip_list(config, {}).unknown_reason)


def test_older_names_and_layers_that_the_model_has_not_are_read_as_transformers_does() -> None:
    values = {"quant_method": "fp8", "modules_to_not_convert": ["model.visual.merger.proj"]}
    config = parse_config(
        json.dumps(
            {
                "model_type": "glm4v_moe",
                "text_config": {"num_hidden_layers": 2},
                "quantization_config": values,
            }
        )
    )
    headers = headers_of(
        visual__merger__proj__weight=("BF16", (8, 8)),
        model__language_model__layers__2__eh_proj__weight=("BF16", (8, 8)),
        model__language_model__layers__1__mlp__gate__weight=("F32", (4, 8)),
        model__language_model__layers__1__mlp__experts__0__up_proj__weight=("F8_E4M3", (8, 8)),
        model__language_model__layers__1__mlp__experts__0__up_proj__weight_scale_inv=(
            "F32",
            (1, 1),
        ),
        model__language_model__embed_tokens__weight=("BF16", (8, 8)),
    )
    found = audit_skip_list(config, headers)
    assert found.problem is None
    assert found.layer_count == 2  # the merger, and the experts as one


def test_experts_in_full_precision_are_taken_by_fp8_unless_listed() -> None:
    experts = "model.language_model.layers.1.mlp.experts"
    headers = headers_of(
        model__language_model__layers__1__mlp__experts__0__up_proj__weight=("BF16", (8, 8)),
        model__language_model__layers__1__mlp__experts__1__up_proj__weight=("BF16", (8, 8)),
    )
    config = config_of(quant_method="fp8", modules_to_not_convert=["lm_head"])
    assert audit_skip_list(config, headers).quantized_on_load == (experts,)
    config = config_of(quant_method="fp8", modules_to_not_convert=["mlp.experts"])
    assert audit_skip_list(config, headers).problem is None


def test_layers_are_summarised_by_pattern() -> None:
    names = [f"model.visual.blocks.{n}.{part}" for part in "abcd" for n in range(3)]
    assert summarise_modules(names) == (
        "12 layers, model.visual.blocks.*.a, model.visual.blocks.*.b, model.visual.blocks.*.c "
        "and 1 more (the first is model.visual.blocks.0.a),"
    )
    assert summarise_modules(["lm_head"]) == "1 layer, lm_head,"
