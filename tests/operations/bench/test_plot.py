"""The chart of a measurement."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from conv2linear.errors import OutputError
from conv2linear.operations.bench.bench import Bench, bench
from conv2linear.operations.bench.inputs import BenchLimits
from conv2linear.operations.bench.plot import plot_bench
from tests.operations.bench.conftest import Plant


@pytest.fixture
def result(limits: BenchLimits) -> Bench:
    return bench(device="cpu", dtype="bf16", limits=limits)


def texts_of(chart: Path) -> set[str]:
    return {text.strip() for text in ElementTree.parse(chart).getroot().itertext()}


def test_a_png_chart_is_a_picture_of_both_layers(result: Bench, tmp_path: Path) -> None:
    plot_bench(result, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24) or ()}
    assert {(0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)} <= colors


def test_an_svg_chart_names_inputs_layers_and_speedups(result: Bench, tmp_path: Path) -> None:
    plot_bench(result, str(tmp_path / "chart.svg"))
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = texts_of(tmp_path / "chart.svg")
    assert {"Conv3d", "linear", "64 (112²)", "484 (308²)"} <= texts
    assert {f"{measurement.speedup:.1f}×" for measurement in result.measurements} <= texts


def test_a_chart_does_not_call_a_wrong_conv3d_slow(
    limits: BenchLimits, plant: Plant, tmp_path: Path
) -> None:
    plant("conv3d", 1.0)
    with pytest.warns(match="Conv3d is wrong"):
        result = bench(device="cpu", dtype="bf16", limits=limits)
    plot_bench(result, tmp_path / "chart.svg")
    assert "Conv3d wrong" in texts_of(tmp_path / "chart.svg")


def test_a_chart_that_the_disk_does_not_take_is_an_output_error(
    result: Bench, tmp_path: Path
) -> None:
    (tmp_path / "chart.png").mkdir()
    with pytest.raises(OutputError, match=r"chart\.png"):
        plot_bench(result, tmp_path / "chart.png")
