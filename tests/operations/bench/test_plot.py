"""The chart of a measurement."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from conv2linear.equivalence.outcome import Environment
from conv2linear.equivalence.timing import summarise
from conv2linear.errors import OutputError
from conv2linear.operations.bench.bench import Bench, bench
from conv2linear.operations.bench.inputs import BenchLimits
from conv2linear.operations.bench.measure import LayerResult
from conv2linear.operations.bench.plot import plot_bench
from conv2linear.operations.bench.vision_tower import Tower, TowerTiming
from tests.operations.bench.conftest import Plant


@pytest.fixture
def result(limits: BenchLimits) -> Bench:
    return bench(device="cpu", dtype="bf16", limits=limits)


def texts_of(chart: Path) -> set[str]:
    return {text.strip() for text in ElementTree.parse(chart).getroot().itertext()}


def groups_of(root: ElementTree.Element, prefix: str) -> list[ElementTree.Element]:
    groups = root.iter("{http://www.w3.org/2000/svg}g")
    return [group for group in groups if group.get("id", "").startswith(prefix)]


def box_of(axes: ElementTree.Element) -> tuple[float, float, float, float] | None:
    """Return left, top, right and bottom of a panel, None for one without a frame."""
    backgrounds = [group for group in axes if group.get("id", "").startswith("patch_")]
    if not backgrounds:
        return None
    numbers = [float(n) for n in re.findall(r"[\d.]+", backgrounds[0][0].get("d", ""))]
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def places_of(group: ElementTree.Element) -> list[tuple[float, float]]:
    """Return where its texts and markers are."""
    placed = [each for each in group.iter() if each.get("x") and each.get("y")]
    return [(float(each.get("x", "")), float(each.get("y", ""))) for each in placed]


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
    texts = texts_of(tmp_path / "chart.svg")
    assert "wrong" in texts
    assert "wrong: Conv3d computes something" in texts  # the note says what that means


def test_what_was_left_out_is_named_with_the_reason(
    result: Bench, limits: BenchLimits, tmp_path: Path
) -> None:
    impatient = replace(limits, longest_run_s=0.0)
    bench_result = bench(device="cpu", dtype="bf16", limits=impatient)
    plot_bench(bench_result, tmp_path / "chart.svg")
    text = " ".join(ElementTree.parse(tmp_path / "chart.svg").getroot().itertext())
    words = " ".join(text.split())
    assert "Left out, Conv3d, bf16: 308² (about" in words
    plot_bench(result, tmp_path / "chart.svg")
    assert "Left out" not in (tmp_path / "chart.svg").read_text()


def test_an_input_that_both_layers_leave_out_has_its_place_in_the_panel(
    result: Bench, tmp_path: Path
) -> None:
    first, last = result.measurements
    absent = LayerResult(None, None, "about 9 s a run")
    shown = replace(result, measurements=(first, replace(last, conv3d=absent, linear=absent)))
    plot_bench(shown, tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    left, top, right, bottom = next(filter(None, map(box_of, groups_of(root, "axes_"))))
    (mark,) = [text for text in root.iter() if text.text == "left out"]
    (x, y) = map(float, re.findall(r"translate\(([\d.]+) ([\d.]+)\)", mark.get("transform", ""))[0])
    assert left < x < right
    assert top < y < bottom


@pytest.mark.parametrize("with_tower", [False, True])
@pytest.mark.parametrize("dtypes", [1, 3])
def test_the_legend_is_beside_the_panels_and_nothing_lies_over_another(
    dtypes: int, with_tower: bool, result: Bench, tmp_path: Path
) -> None:
    measurements = [
        replace(each, dtype=name)
        for name in ("bf16", "fp16", "fp32")[:dtypes]
        for each in result.measurements
    ]
    times = summarise([0.1, 0.2])
    timing = TowerTiming(times, times, times)
    tower = Tower(1024, timing, timing, None) if with_tower else None
    long_name = Environment("cuda", "NVIDIA H100 80GB HBM3 " * 4, "2.11.0+cu130", "9.15.1")
    shown = replace(result, measurements=tuple(measurements), tower=tower, environment=long_name)
    plot_bench(shown, tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    (legend,) = groups_of(root, "legend_")
    panels = [box_of(axes) for axes in groups_of(root, "axes_") if axes is not legend]
    boxes = [panel for panel in panels if panel]
    assert len(boxes) == dtypes + with_tower
    for left, top, right, bottom in boxes:
        for x, y in places_of(legend):
            assert not (left < x < right and top < y < bottom)
    title = [text for text in texts_of(tmp_path / "chart.svg") if "H100" in text]
    assert len(title) > 1  # so long a title is wrapped


def test_a_chart_that_the_disk_does_not_take_is_an_output_error(
    result: Bench, tmp_path: Path
) -> None:
    (tmp_path / "chart.png").mkdir()
    with pytest.raises(OutputError, match=r"chart\.png"):
        plot_bench(result, tmp_path / "chart.png")
