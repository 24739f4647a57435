"""The measurements of `bench`, its table, its JSON and its chart."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor

import conv2linear.operations.bench.bench as bench_module
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.cli.app import run
from conv2linear.equivalence.layers import Layers
from conv2linear.errors import CheckFailedError, Conv2LinearError
from conv2linear.operations.bench.bench import DTYPES, bench, count_patches, list_inputs
from conv2linear.operations.bench.plot import plot_bench
from conv2linear.operations.bench.vision_tower import bench_tower
from conv2linear.operations.convert import convert
from tests.support.processes import RunCli

GEOMETRY = MODEL_TYPES["glm4v_moe"].geometry({})
SMALL_INPUTS = (("308²", 1, 308, 308), ("112²", 1, 112, 112))  # 484 and 64 patches
TinyModel = Callable[..., Path]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure small inputs, and each for a moment only."""
    monkeypatch.setattr(bench_module, "_INPUTS", SMALL_INPUTS)
    monkeypatch.setattr(bench_module, "_BUDGET_S", 0.02)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Return a function that makes a layer wrong in one element, in a row of a large input."""

    def plant(layer: str, value: float) -> None:
        sound = getattr(Layers, layer)

        def wrong(self: Layers, patches: torch.Tensor, **options: bool) -> torch.Tensor:
            output = sound(self, patches, **options).clone()
            if len(output) > 300:
                output[300, 5] += value
            return output

        monkeypatch.setattr(Layers, layer, wrong)

    return plant


@given(height=st.integers(150, 6000), width=st.integers(150, 6000))
def test_an_image_counts_as_many_patches_as_the_processor_makes(height: int, width: int) -> None:
    made = Glm4vImageProcessorPil().get_number_of_image_patches(height, width)
    assert count_patches(1, height, width, GEOMETRY) == made


@given(frames=st.integers(2, 600), height=st.integers(150, 2400), width=st.integers(150, 4000))
def test_a_video_counts_as_many_patches_as_the_processor_makes(
    frames: int, height: int, width: int
) -> None:
    made = Glm4vVideoProcessor().get_num_of_video_patches(frames, height, width)
    assert count_patches(frames, height, width, GEOMETRY) == made


def test_the_inputs_reach_from_224_squared_to_4k_and_a_video() -> None:
    inputs = list_inputs(GEOMETRY)
    assert [input_.patches for input_ in inputs] == [256, 1024, 4784, 10764, 29440, 47840]
    assert inputs[-1].frames > 1


def test_bench_measures_both_layers_in_each_dtype(hasty: None) -> None:
    result = bench(device="cpu")
    assert result.kernel_shape == (1536, 3, 2, 14, 14)
    assert result.environment.torch == torch.__version__
    assert [(p.dtype, p.input.patches) for p in result.measurements] == [
        (dtype, patches) for dtype in DTYPES for patches in (64, 484)
    ]
    for measurement in result.measurements:
        for layer in (measurement.conv3d, measurement.linear):
            assert layer.timing
            assert 0 < layer.timing.lower_quartile_s <= layer.timing.median_s
            assert layer.timing.median_s <= layer.timing.upper_quartile_s
            assert layer.max_over_bound is not None
            assert 0 < layer.max_over_bound <= 1
        assert measurement.conv3d.timing
        assert measurement.linear.timing
        assert (
            measurement.speedup
            == measurement.conv3d.timing.median_s / measurement.linear.timing.median_s
        )
    assert result.warnings == ()


@pytest.mark.cuda
def test_bench_measures_on_cuda_and_names_cudnn(hasty: None) -> None:
    result = bench(device="cuda")
    assert result.environment.device.startswith("cuda")
    assert result.environment.cudnn
    assert all(
        measurement.linear.timing and measurement.conv3d.timing
        for measurement in result.measurements
    )


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_bench_reports_a_conv3d_that_is_wrong_in_one_element(
    hasty: None, plant: Callable[[str, float], None], value: float
) -> None:
    plant("conv3d", value)
    result = bench(device="cpu", dtype="bf16")
    (warning,) = result.warnings
    assert "Conv3d is wrong on this machine: 308² in bf16" in warning
    assert torch.__version__ in warning
    right, wrong = result.measurements
    assert right.conv3d.max_over_bound is not None
    assert wrong.conv3d.max_over_bound is not None
    assert right.conv3d.max_over_bound <= 1 < wrong.conv3d.max_over_bound


def test_bench_fails_where_the_linear_layer_is_wrong(
    hasty: None, plant: Callable[[str, float], None]
) -> None:
    plant("linear", 1.0)
    with pytest.raises(CheckFailedError, match="linear layer is wrong on this machine: 308²"):
        bench(device="cpu", dtype="bf16")


def test_an_input_that_would_take_too_long_is_left_out(
    hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "_LONGEST_RUN_S", 0.0)
    first, second = bench(device="cpu", dtype="bf16").measurements
    assert first.conv3d.timing
    assert first.linear.timing
    assert second.conv3d.timing is None
    assert second.conv3d.skipped
    assert "s a run" in second.conv3d.skipped
    assert second.speedup is None


def test_bench_takes_the_layer_of_the_checkpoint(
    hasty: None, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(bench_module, "bench_tower", lambda *_, **__: None)
    sound = Layers.linear

    def spy(self: Layers, patches: torch.Tensor) -> torch.Tensor:
        seen.append(self)
        return sound(self, patches)

    monkeypatch.setattr(Layers, "linear", spy)
    folder = tiny_model(patch_size=16, temporal_patch_size=1)
    result = bench(folder, device="cpu", dtype="bf16")
    assert result.kernel_shape == (128, 3, 1, 16, 16)
    tensors = {}
    for shard in folder.glob("*.safetensors"):
        tensors |= load_file(shard)
    assert torch.equal(seen[0].kernel, tensors["model.visual.patch_embed.proj.weight"])
    assert torch.equal(seen[0].bias, tensors["model.visual.patch_embed.proj.bias"])


@pytest.mark.parametrize(
    ("options", "words"), [({"dtype": "fp8"}, "fp8"), ({"device": "tpu"}, "tpu")]
)
def test_bench_refuses_what_it_does_not_know(options: dict[str, str], words: str) -> None:
    with pytest.raises(Conv2LinearError, match=words) as raised:
        bench(**options)
    assert raised.value.hint


def test_bench_times_the_tower_of_a_folder_in_both_layouts(
    hasty: None, tiny_model: TinyModel
) -> None:
    tower = bench(tiny_model(), device="cpu", dtype="bf16").tower
    assert tower
    assert tower.skipped is None
    assert tower.patches == 1024
    for timing in (tower.conv3d, tower.linear):
        assert timing
        assert timing.load_s > 0
        assert timing.first_s > 0
        assert timing.later.runs > 1


def test_the_tower_of_a_linear_checkpoint_has_no_conv3d_to_compare(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    convert(tiny_model(), tmp_path / "linear")
    tower = bench_tower(tmp_path / "linear", layout="linear", device="cpu", side=8)
    assert tower.linear
    assert tower.conv3d is None
    assert tower.skipped
    assert "linear" in tower.skipped


def test_the_tower_is_skipped_with_a_reason_where_a_weight_is_missing(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model(max_shard_size="1GB"), tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.visual.blocks.0.attn.qkv.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tower = bench_tower(folder, layout="conv3d", device="cpu", side=8)
    assert tower.conv3d is tower.linear is None
    assert tower.skipped
    assert "blocks.0.attn.qkv.weight" in tower.skipped


def test_the_tower_is_skipped_with_a_reason_without_transformers(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    tower = bench_tower(tiny_model(), layout="conv3d", device="cpu", side=8)
    assert tower.skipped == "transformers is not installed"


def test_a_png_chart_is_a_picture_of_both_layers(hasty: None, tmp_path: Path) -> None:
    plot_bench(bench(device="cpu", dtype="bf16"), tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24)}
    assert {(0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)} <= colors


def test_an_svg_chart_names_inputs_layers_and_speedups(hasty: None, tmp_path: Path) -> None:
    result = bench(device="cpu", dtype="bf16")
    plot_bench(result, tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {text.strip() for text in root.itertext()}
    assert {"Conv3d", "linear", "64 (112²)", "484 (308²)"} <= texts
    assert {f"{measurement.speedup:.1f}×" for measurement in result.measurements} <= texts


def test_a_chart_does_not_call_a_wrong_conv3d_slow(
    hasty: None, plant: Callable[[str, float], None], tmp_path: Path
) -> None:
    plant("conv3d", 1.0)
    plot_bench(bench(device="cpu", dtype="bf16"), tmp_path / "chart.svg")
    texts = {
        text.strip() for text in ElementTree.parse(tmp_path / "chart.svg").getroot().itertext()
    }
    assert "Conv3d wrong" in texts


def test_a_chart_without_matplotlib_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["bench", "--plot", str(tmp_path / "chart.png")]) == 2
    captured = capsys.readouterr()
    assert "matplotlib" in captured.err
    assert "pip install conv2linear[plot]" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("name", ["chart.jpg", "chart", "missing/chart.png"])
def test_a_chart_that_cannot_be_written_is_refused_before_anything_is_measured(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(bench_module, "bench", fail)
    assert run(["bench", "--plot", str(tmp_path / name)]) == 2


def test_bench_prints_a_table(
    hasty: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chart = tmp_path / "chart.png"
    assert run(["bench", "--device", "cpu", "--dtype", "fp32", "--plot", str(chart)]) == 0
    out = capsys.readouterr().out
    assert chart.is_file()
    for word in ("Conv3d", "linear", "speed-up", "308²", "484", torch.__version__, "chart.png"):
        assert word in out
    assert "WRONG" not in out


def test_bench_says_in_the_table_that_conv3d_is_wrong(
    hasty: None, plant: Callable[[str, float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant("conv3d", 1.0)
    assert run(["bench", "--device", "cpu", "--dtype", "bf16"]) == 0
    captured = capsys.readouterr()
    assert "WRONG" in captured.out
    assert "Conv3d is wrong on this machine" in captured.err


def test_bench_prints_one_json_document(hasty: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--device", "cpu", "--dtype", "bf16", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["command"] == "bench"
    assert document["environment"]["torch"] == torch.__version__
    measurement = document["measurements"][0]
    assert measurement["input"]["name"] == "112²"
    medians = [measurement[layer]["timing"]["median_s"] for layer in ("conv3d", "linear")]
    assert measurement["speedup"] == medians[0] / medians[1]
    assert document["tower"] is None


def test_bench_refuses_a_checkpoint_that_is_not_there(run_cli: RunCli) -> None:
    run_cli("bench", "./missing").assert_refused("missing")
