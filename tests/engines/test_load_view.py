"""What is read back of an engine's own layer, from stand-ins that load as the engines do.

Each load runs in a fork: a plugin changes the classes of an engine for the whole process. Real
engines are run by `scripts/check_engine`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear import convert
from conv2linear.engines.load_view import LAYERS, PATCHES, load_and_read_back
from tests.support import forks
from tests.support.checkpoints import BIAS, WEIGHT
from tests.support.models import TinyModel
from tests.support.stand_ins import install_stand_ins

ENGINES = ("vllm", "sglang")
NOT_NAMED = {"vllm": "VLLM_PLUGINS", "sglang": "SGLANG_PLUGINS"}


@pytest.fixture(scope="module")
def converted(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a linear checkpoint in one shard, not to be changed."""
    out = tmp_path_factory.mktemp("linear")
    convert(tiny_model("glm4v"), out / "sharded", device="cpu")
    tensors: dict[str, torch.Tensor] = {}
    for shard in (out / "sharded").glob("*.safetensors"):
        tensors |= load_file(shard)
    (out / "one").mkdir()
    save_file(tensors, out / "one" / "model.safetensors")
    (out / "one" / "config.json").write_text((out / "sharded" / "config.json").read_text())
    return out / "one"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_stand_ins(tmp_path / "site", monkeypatch)
    return tmp_path / "site"


def load_here(site: str, engine: str, folder: str, exchange: str) -> dict[str, Any]:
    """Load with a stand-in, in this process."""
    sys.path.append(site)
    return load_and_read_back(engine, folder, exchange)


def load(site: Path, engine: str, folder: Path, tmp_path: Path) -> dict[str, Any]:
    patches = torch.randn(5, 1176, generator=torch.Generator().manual_seed(0))
    (tmp_path / "exchange").mkdir(exist_ok=True)
    save_file({"0": patches.bfloat16()}, tmp_path / "exchange" / PATCHES)
    arguments = (str(site), engine, str(folder), str(tmp_path / "exchange"))
    return forks.call(load_here, *arguments)


def damage(folder: Path, tmp_path: Path, **changed: torch.Tensor) -> Path:
    """Copy a checkpoint with another weight, or with something beside it."""
    target = tmp_path / "damaged"
    target.mkdir()
    (target / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    for suffix, tensor in changed.items():
        tensors[WEIGHT.removesuffix("weight") + suffix] = tensor.contiguous()
    save_file(tensors, target / "model.safetensors")
    return target


@pytest.mark.parametrize("fault", [None, "packs"])
@pytest.mark.parametrize("engine", ENGINES)
def test_weight_bias_and_output_are_those_of_the_engines_layer(
    site: Path,
    converted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    fault: str | None,
) -> None:
    """Also where the engine has packed the weight after it was loaded."""
    if fault:
        monkeypatch.setenv("STAND_IN_FAULT", fault)
    assert load(site, engine, converted, tmp_path) == {"classes": ["Conv3dLayer"]}

    built = load_file(tmp_path / "exchange" / LAYERS)
    file = load_file(converted / "model.safetensors")
    assert list(built["0.weight"].shape) == [128, 3, 2, 14, 14]
    assert torch.equal(built["0.weight"].flatten(1), file[WEIGHT])
    assert torch.equal(built["0.bias"], file[BIAS])
    patches = load_file(tmp_path / "exchange" / PATCHES)["0"]
    expected = torch.nn.functional.linear(patches.double(), file[WEIGHT].double())
    assert built["0.output"].shape == (5, 128)
    torch.testing.assert_close(
        built["0.output"].double(), expected + file[BIAS], rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_without_the_plugin_the_engines_own_refusal_is_told(
    site: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv(NOT_NAMED[engine], "none")
    outcome = load(site, engine, converted, tmp_path)
    assert outcome["error"].startswith("AssertionError: Attempted to load weight")
    assert not outcome["is_machine"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("transposed", "expected shape [128, 3, 2, 14, 14] or its linear form [128, 1176]"),
        ("float8", "expected bfloat16, float16 or float32, found float8_e4m3fn"),
        ("scaled", "expected a weight and a bias, found"),
    ],
)
def test_each_fault_of_the_weight_is_refused_by_the_plugin(
    site: Path, converted: Path, tmp_path: Path, engine: str, name: str, words: str
) -> None:
    weight = load_file(converted / "model.safetensors")[WEIGHT]
    faults = {
        "transposed": {"weight": weight.t()},
        "float8": {"weight": weight.to(torch.float8_e4m3fn)},
        "scaled": {"weight_scale": torch.ones(128, 1)},
    }
    outcome = load(site, engine, damage(converted, tmp_path, **faults[name]), tmp_path)
    assert words in outcome["error"]
    assert not outcome["is_machine"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_machine_without_memory_says_nothing_about_the_checkpoint(
    site: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("STAND_IN_FAULT", "memory")
    outcome = load(site, engine, converted, tmp_path)
    assert outcome["is_machine"]
    assert "can't allocate memory" in outcome["error"]


@pytest.mark.parametrize(
    ("engine", "file", "lacking"),
    [
        ("vllm", "vllm/__init__.py", "create_engine_config"),  # met when it loads
        ("vllm", "vllm/__init__.py", "init_distributed_environment"),  # when it is imported
        ("sglang", "sglang/__init__.py", "init_layer_runtime"),
        ("sglang", "sglang/__init__.py", "get_device"),
    ],
)
def test_a_release_that_lacks_what_is_called_says_nothing_about_the_checkpoint(
    site: Path, converted: Path, tmp_path: Path, engine: str, file: str, lacking: str
) -> None:
    text = (site / file).read_text()
    (site / file).write_text(text.replace(lacking, f"old_{lacking}"))
    outcome = load(site, engine, converted, tmp_path)
    assert outcome["is_machine"], outcome
    assert lacking in outcome["error"]
