"""`verify --engine vllm` and `--engine sglang`, with stand-ins that load as the engines do.

`scripts/check_engine` runs the same with the real ones.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from conv2linear import Verification, convert, verify
from conv2linear.errors import EngineError
from tests.support.checkpoints import BIAS, WEIGHT
from tests.support.contents import snapshot
from tests.support.models import TinyModel
from tests.support.stand_ins import install_stand_ins


@pytest.fixture(autouse=True)
def _stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_stand_ins(tmp_path / "site", monkeypatch)


def run(checkpoint: Path, engine: Any, **options: Any) -> dict[str, tuple[str, str]]:
    return outcomes(verify(checkpoint, engine=engine, device="cpu", **options))


def outcomes(verification: Verification) -> dict[str, tuple[str, str]]:
    """Return outcome and detail of the checks of engines, by the name of the engine."""
    return {
        check.name.removeprefix("engine "): (str(check.outcome), check.detail)
        for check in verification.checks
        if check.name.startswith("engine ")
    }


def test_both_engines_load_it_in_one_call_and_nothing_of_the_view_stays(
    linear: Path, temporary: Path
) -> None:
    before = snapshot(linear)
    found = run(linear, ["vllm", "sglang"])
    for engine in ("vllm", "sglang"):
        outcome, detail = found[engine]
        assert outcome == "pass", detail
        assert detail.startswith(f"{engine} 1.2.3 builds Conv3dLayer bfloat16 [128, 3, 2, 14, 14]")
        assert detail.endswith("; loaded with 1 text layer and 1 vision layer")
    assert list(temporary.iterdir()) == []
    assert snapshot(linear) == before


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("VLLM_PLUGINS", "", "VLLM_PLUGINS does not name conv2linear"),
        ("STAND_IN_FAULT", "rounds", "of the 150528 values of the weight are not those of"),
    ],
)
def test_a_layer_that_is_refused_or_has_other_numbers_fails_with_the_reason(
    linear: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    outcome, detail = run(linear, "vllm")["vllm"]
    assert outcome == "fail"
    assert words in detail


def test_a_layer_that_has_moved_is_the_reason_where_it_is_not_loaded(
    linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = tmp_path / "site" / "vllm" / "model_executor" / "layers" / "conv.py"
    conv.write_text("from torch.nn import Conv3d\n")
    package = conv.parents[2] / "__init__.py"
    text = package.read_text()
    package.write_text(text.replace("layers.conv import Conv3dLayer", "layers.conv import Conv3d"))
    package.write_text(package.read_text().replace("Model(Conv3dLayer", "Model(Conv3d"))
    outcome, detail = run(linear, "vllm")["vllm"]
    assert outcome == "fail"
    assert "Attempted to load weight" in detail
    assert detail.endswith("its model_executor/layers/conv.py has no Conv3dLayer to hook")


def test_an_engine_meets_a_transposed_weight_although_the_header_tells(linear: Path) -> None:
    shard = next(p for p in linear.glob("*.safetensors") if WEIGHT in load_file(p))
    tensors = load_file(shard)
    changed = tensors | {WEIGHT: tensors[WEIGHT].t().contiguous()}
    save_file(changed, shard, metadata={"format": "pt"})
    verification = verify(linear, engine="sglang", device="cpu")
    assert verification.failed[0].name == "files"
    outcome, detail = outcomes(verification)["sglang"]
    assert outcome == "fail"
    assert "does not load it: patch embedding weight: expected shape" in detail


def test_files_that_are_not_sound_are_given_to_no_engine(linear: Path) -> None:
    shard = next(linear.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert run(linear, "vllm")["vllm"] == ("skip", "the files are not sound")


def test_an_engine_that_is_not_installed_is_refused_before_any_other_runs(
    linear: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "site" / "sglang-1.2.3.dist-info")
    shutil.rmtree(tmp_path / "site" / "sglang")
    with pytest.raises(EngineError, match="sglang is not installed here") as caught:
        run(linear, "vllm,sglang")
    assert caught.value.exit_code == 2


def test_a_process_that_is_killed_is_not_done(linear: Path, tmp_path: Path) -> None:
    package = tmp_path / "site" / "vllm" / "__init__.py"
    package.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    verification = verify(linear, engine="vllm", device="cpu")
    outcome, detail = outcomes(verification)["vllm"]
    assert (outcome, verification.exit_code) == ("not done", 2)
    assert "ended with signal 9" in detail


def test_temporary_files_beside_the_checkpoint_are_refused(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(linear))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = sorted(linear.iterdir())
    outcome, detail = run(linear, "vllm")["vllm"]
    assert outcome == "not done"
    assert "TMPDIR" in detail
    assert sorted(linear.iterdir()) == before


@pytest.mark.slow
def test_transformers_loads_an_overlay_too(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "overlay", device="cpu", changed_only=True)
    found = run(tmp_path / "overlay", "transformers", source=source)["transformers"]
    assert found[0] == "pass", found


def test_an_overlay_is_loaded_with_the_other_shards_of_its_source(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    """Weight and bias in shards of their own: the overlay has the weight alone."""
    source = Path(shutil.copytree(tiny_model("glm4v"), tmp_path / "apart"))
    for shard in source.glob("*.safetensors"):
        tensors = load_file(shard)
        if {WEIGHT, BIAS} <= set(tensors):
            save_file({BIAS: tensors.pop(BIAS)}, source / "bias.safetensors", {"format": "pt"})
            save_file(tensors, shard, metadata={"format": "pt"})
            index = source / "model.safetensors.index.json"
            text = index.read_text()
            index.write_text(
                text.replace(f'"{BIAS}": "{shard.name}"', f'"{BIAS}": "bias.safetensors"')
            )
            break
    convert(source, tmp_path / "overlay", device="cpu", changed_only=True)
    assert not (tmp_path / "overlay" / "bias.safetensors").exists()
    with pytest.raises(EngineError, match="is an overlay") as caught:
        run(tmp_path / "overlay", "sglang")
    assert "--source" in (caught.value.hint or "")
    outcome, detail = run(tmp_path / "overlay", "sglang", source=source)["sglang"]
    assert outcome == "pass", detail
