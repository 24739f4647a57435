"""What is made for the engines alone stops in transformers; what is made for it loads there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conv2linear import (
    Conv2LinearError,
    Conversion,
    EngineError,
    UnsafeQuantizationError,
    convert,
    inspect_checkpoint,
    restore,
    verify,
)
from tests.support.checkpoints import MANIFEST
from tests.support.contents import hashes
from tests.support.damage import edit_json
from tests.support.installed import need_release
from tests.support.loading_info import read_loading_info
from tests.support.models import TinyModel
from tests.support.processes import RunCli
from tests.support.quantized_models import save_bitsandbytes_model, save_fp8_model

ENGINES = "vllm,sglang"
LINEAR = ("Linear", "torch.bfloat16")
WRONG_ENTRIES = ["lm_head", "visual.blocks.0.attn.qkv_proj", "visual.blocks.1.attn.qkv_proj"]


def skip_list(folder: Path, field: str) -> list[str]:
    names: list[str] = json.loads((folder / "config.json").read_text())["quantization_config"][
        field
    ]
    return names


def assert_loads_linear(folder: Path, *, as_on_gpu: bool = False) -> None:
    """Load it as both auto classes do, which name modules otherwise."""
    for model_class in ("AutoModelForImageTextToText", "AutoModel"):
        loaded = read_loading_info(folder, model_class, as_on_gpu=as_on_gpu)
        assert (loaded.projection_class, loaded.projection_dtype) == LINEAR
        assert not any("patch_embed" in key for key in [*loaded.missing, *loaded.mismatched])
        assert loaded.missing_scales == set()


def outcomes(folder: Path, source: Path | None = None) -> dict[str, tuple[str, str]]:
    checks = verify(folder, device="cpu", source=source).checks
    return {check.name: (str(check.outcome), check.detail) for check in checks}


@pytest.mark.parametrize("kind", ["int", "int4"])
def test_integers_are_refused_for_transformers_with_the_way_out(
    tiny_model: TinyModel, out: Path, kind: str
) -> None:
    with pytest.raises(UnsafeQuantizationError, match=r"5\.23 and 5\.24 refuse it") as caught:
        convert(tiny_model(quantized=kind), out, device="cpu")
    assert f"--for {ENGINES}" in str(caught.value.hint)
    assert not out.exists()
    assert f"--for {ENGINES}" in str(inspect_checkpoint(tiny_model(quantized=kind)).refusal_reason)


@pytest.mark.parametrize("kind", ["int", "int4"])
def test_integers_for_the_engines_keep_their_config_and_stop_in_transformers(
    tiny_model: TinyModel, out: Path, kind: str
) -> None:
    source = tiny_model(quantized=kind)
    conversion = convert(source, out, device="cpu", loaders=ENGINES)
    assert (out / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert conversion.manifest.loaders == ("vllm", "sglang")
    assert conversion.manifest.edited == ("README.md",)
    found = outcomes(out, source=source)
    assert {outcome for outcome, _ in found.values()} <= {"pass", "skip"}
    assert "left out on purpose" in found["config"][1]
    assert found["skip list"][0] == "skip"
    restore(out, out.parent / "restored")
    assert hashes(out.parent / "restored") == hashes(source)
    need_release("transformers", "5.23", "before, it loads with a random patch embedding")
    with pytest.raises(AssertionError, match="ignore_mismatched_sizes"):
        read_loading_info(out)


def test_what_is_forced_for_transformers_stops_there(tiny_model: TinyModel, out: Path) -> None:
    """The refusal is right: the newest transformers does not load it."""
    source = tiny_model(quantized="int4")
    conversion = convert(source, out, device="cpu", allow_unsafe_quantization=True)
    assert "unsafe quantisation" in " ".join(conversion.warnings)
    need_release("transformers", "5.23", "before, it loads with a random patch embedding")
    with pytest.raises(AssertionError, match="conversion of the weights"):
        read_loading_info(out)


def test_an_engine_that_it_was_not_made_for_is_refused(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu", loaders=["vllm"])
    assert not inspect_checkpoint(out).compatibility[0].loads
    with pytest.raises(EngineError, match="on purpose") as caught:
        verify(out, device="cpu", engine="transformers")
    assert "--for transformers" in str(caught.value.hint)


def test_fusion_that_is_turned_on_afterwards_fails(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu", loaders=ENGINES)
    edit_json(out / "config.json", lambda c: c.update(fusion_config={"patch_embeddings": True}))
    assert outcomes(out)["config"] == (
        "fail",
        "config.json: fusion_config.patch_embeddings is on, though it was made for vllm, sglang "
        "only",
    )


def test_fusion_that_the_source_has_is_taken_out_for_the_engines(
    checkpoint: Path, out: Path
) -> None:
    edit_json(
        checkpoint / "config.json", lambda c: c.update(fusion_config={"patch_embeddings": True})
    )
    convert(checkpoint, out, device="cpu", loaders=ENGINES)
    assert "fusion_config" not in json.loads((out / "config.json").read_text())
    assert {outcome for outcome, _ in outcomes(out, source=checkpoint).values()} <= {"pass"}
    restore(out, out.parent / "restored")
    assert hashes(out.parent / "restored") == hashes(checkpoint)


def test_an_overlay_for_the_engines_has_its_config(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu", loaders=ENGINES, changed_only=True)
    assert (out / "config.json").read_bytes() == (checkpoint / "config.json").read_bytes()
    assert {outcome for outcome, _ in outcomes(out, source=checkpoint).values()} <= {"pass", "skip"}


def test_a_record_without_loaders_was_made_for_all(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu")
    edit_json(out / MANIFEST, lambda m: m.update(tool="0.1.0"))
    edit_json(out / MANIFEST, lambda m: m.pop("loaders"))
    assert outcomes(out)["config"] == ("pass", "fusion_config.patch_embeddings is on")


@pytest.mark.parametrize("loaders", [[], "", ["tgi"], "vllm,tgi", [7], 7])
def test_loaders_that_are_none_are_an_error(
    checkpoint: Path, out: Path, loaders: list[str]
) -> None:
    with pytest.raises(Conv2LinearError, match="loader"):
        convert(checkpoint, out, loaders=loaders)


def test_the_command_line_names_loaders_by_for(
    tiny_model: TinyModel, out: Path, run_cli: RunCli
) -> None:
    source = tiny_model(quantized="int4")
    refused = run_cli("convert", source, out)
    assert refused.code == 2
    assert f"--for {ENGINES}" in refused.stderr
    done = run_cli("convert", source, out, "--for", ENGINES, "--device", "cpu", "--json")
    assert done.code == 0, done.stderr
    assert done.json["manifest"]["loaders"] == ["vllm", "sglang"]
    assert run_cli("verify", out, "--device", "cpu").code == 0


def lying(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    edit_json(
        folder / "config.json", lambda c: c["quantization_config"].update(ignore=WRONG_ENTRIES)
    )
    return folder


@pytest.fixture
def liar(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """Return a checkpoint whose list of modules to skip names modules that the model has not."""
    stored = ("lm_head", r"re:.*visual.*\.qkv$")
    return lying(tiny_model(quantized="float", ignore=stored), tmp_path / "liar")


def test_a_list_that_lies_is_named_and_does_not_stop_the_conversion(
    liar: Path, out: Path, run_cli: RunCli
) -> None:
    printed = run_cli("inspect", liar).stdout
    assert "2 layers, model.visual.blocks.*.attn.qkv" in " ".join(printed.split())
    conversion: Conversion = convert(liar, out, device="cpu")
    (warning,) = conversion.warnings
    assert "the original does not load rightly in transformers" in warning
    assert "model.visual.blocks.0.attn.qkv" in warning
    assert not conversion.compatibility[0].loads
    outcome, detail = outcomes(out)["skip list"]
    assert outcome == "fail"
    assert "The original has the same fault" in detail
    assert run_cli("verify", out, "--device", "cpu").code == 1


def test_a_list_that_is_spoilt_afterwards_is_not_put_down_to_the_original(
    tiny_model: TinyModel, out: Path
) -> None:
    source = tiny_model(quantized="float")
    convert(source, out, device="cpu")
    assert outcomes(out)["skip list"][0] == "pass"
    edit_json(out / "config.json", lambda c: c["quantization_config"]["ignore"].remove("lm_head"))
    outcome, detail = outcomes(out)["skip list"]
    assert outcome == "fail"
    assert "lm_head" in detail
    assert "original" not in detail


def test_for_the_engines_a_list_that_lies_is_no_fault(liar: Path, out: Path) -> None:
    conversion = convert(liar, out, device="cpu", loaders=ENGINES)
    assert conversion.warnings == ()
    assert outcomes(out)["skip list"][0] == "skip"


def test_float8_of_compressed_tensors_loads_however_it_is_loaded(
    tiny_model: TinyModel, out: Path
) -> None:
    convert(tiny_model(quantized="float"), out, device="cpu")
    assert_loads_linear(out)


def test_fp8_loads_however_it_is_loaded_on_a_gpu_too(tmp_path: Path, out: Path) -> None:
    source = save_fp8_model(tmp_path / "model", skipped=["lm_head"], listed=["lm_head"])
    convert(source, out, device="cpu")
    assert skip_list(out, "modules_to_not_convert") == ["lm_head", "patch_embed.linear_proj"]
    assert_loads_linear(out, as_on_gpu=True)


def test_fp8_without_the_entry_is_quantised_on_a_gpu(tmp_path: Path, out: Path) -> None:
    """The entry is worth something, and the load above would show its absence."""
    source = save_fp8_model(tmp_path / "model", skipped=["lm_head"], listed=["lm_head"])
    convert(source, out, device="cpu")
    edit_json(
        out / "config.json",
        lambda c: c["quantization_config"].update(modules_to_not_convert=["lm_head"]),
    )
    assert read_loading_info(out, as_on_gpu=True).projection_class == "FP8Linear"
    assert outcomes(out)["quantization"][0] == "fail"


def test_the_entry_of_earlier_versions_still_verifies(tmp_path: Path, out: Path) -> None:
    source = save_fp8_model(tmp_path / "model", skipped=["lm_head"], listed=["lm_head"])
    convert(source, out, device="cpu", model_card=False)
    entries = ["lm_head", "model.visual.patch_embed.linear_proj"]
    edit_json(
        out / "config.json",
        lambda c: c["quantization_config"].update(modules_to_not_convert=entries),
    )
    size = (out / "config.json").stat().st_size

    def as_before(manifest: dict[str, object]) -> None:
        manifest["tool"] = "0.1.0"
        del manifest["loaders"], manifest["compatibility"]
        for record in manifest["files"]:  # type: ignore[attr-defined]
            if record["name"] == "config.json":
                record |= {"size_bytes": size, "sha256": None}

    edit_json(out / MANIFEST, as_before)
    found = outcomes(out, source=source)
    assert {outcome for outcome, _ in found.values()} <= {"pass", "skip"}
    assert found["quantization"][0] == found["recorded edits"][0] == "pass"


@pytest.mark.parametrize("values", [{}, {"llm_int8_skip_modules": []}, {"quant_method": None}])
def test_bitsandbytes_without_a_list_gets_what_the_headers_say(
    tiny_model: TinyModel, tmp_path: Path, out: Path, values: dict[str, object]
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    source = save_bitsandbytes_model(tmp_path / "source", tiny_model())
    assert skip_list(source, "llm_int8_skip_modules") is None
    edit_json(source / "config.json", lambda c: c["quantization_config"].update(values))
    if "quant_method" in values:
        edit_json(source / "config.json", lambda c: c["quantization_config"].pop("quant_method"))
    convert(source, out, device="cpu")
    assert skip_list(out, "llm_int8_skip_modules") == ["lm_head", "patch_embed.linear_proj"]
    assert {outcome for outcome, _ in outcomes(out, source=source).values()} <= {"pass", "skip"}
    assert_loads_linear(out)


def test_bitsandbytes_with_a_vision_tower_in_full_precision_lists_its_layers(
    tiny_model: TinyModel, tmp_path: Path, out: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    skipped = ["lm_head", "model.visual"]
    source = save_bitsandbytes_model(tmp_path / "source", tiny_model(), bits=8, skipped=skipped)
    edit_json(
        source / "config.json",
        lambda c: c["quantization_config"].update(llm_int8_skip_modules=None),
    )
    convert(source, out, device="cpu", changed_only=False)
    listed = skip_list(out, "llm_int8_skip_modules")
    assert {"lm_head", "visual.blocks.0.attn.qkv", "patch_embed.linear_proj"} <= set(listed)
    assert outcomes(out)["skip list"][0] == "pass"
    assert_loads_linear(out)
    convert(source, out.parent / "overlay", device="cpu", changed_only=True)
    assert outcomes(out.parent / "overlay")["recorded edits"][0] == "pass"
