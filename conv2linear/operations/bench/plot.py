"""Draw a `Bench`: time against patches for both layers, and the time of the whole vision tower."""

from __future__ import annotations

import importlib.util
import math
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conv2linear.errors import Conv2LinearError
from conv2linear.files.disk_errors import write_errors
from conv2linear.files.status import is_folder
from conv2linear.installation import install
from conv2linear.operations.bench.bench import Bench
from conv2linear.operations.bench.measure import Measurement
from conv2linear.operations.bench.vision_tower import Tower
from conv2linear.paths import StrPath, missing_folder_hint, parse_path

_SUFFIXES = (".png", ".svg")
_LAYERS = (("conv3d", "Conv3d", "#d55e00", "o"), ("linear", "linear", "#0072b2", "s"))
_GREY = "#5f6368"
_PANEL_INCHES, _NOTES_INCHES = 4.2, 2.4  # wide
_ROW_INCHES = 4.6  # high
_MARGIN = 1.6  # between the first or last input and the edge of a panel, as a factor
_CHARACTERS_PER_INCH = 11.5  # of the title, at its size
_NOTE_CHARACTERS = 36  # in a line beside the panels


def check_plot(path: StrPath) -> Path:
    """Return the path of a chart; nothing is written.

    Raises `Conv2LinearError` where no chart can be drawn to it.
    """
    path = parse_path(path, what="chart", error=Conv2LinearError)
    if path.suffix.lower() not in _SUFFIXES:
        raise Conv2LinearError(
            f"{path}: a chart is written as PNG or SVG",
            hint=f"give it a name that ends in {' or '.join(_SUFFIXES)}",
        )
    if not is_folder(path.parent):
        raise Conv2LinearError(
            f"{path.parent} is not a folder", hint=missing_folder_hint(path.parent)
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise Conv2LinearError(
            "a chart needs matplotlib, which is not installed",
            hint=install("matplotlib"),
        )
    return path


def plot_bench(bench: Bench, path: StrPath) -> None:
    """Draw one log-log panel for each dtype, with the speed-up between the lines.

    The bands reach from the lower to the upper quartile. A vision tower that was measured has a
    panel too. The legend, and what was left out with the reason, stand beside the panels.

    Args:
        bench: what `bench` has measured.
        path: the file to write; its name ends in .png or .svg.

    Raises `Conv2LinearError` where `path` does not end so or matplotlib is not installed, and
    `OutputError` where the file cannot be written.
    """
    path = check_plot(path)
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    dtypes = list(dict.fromkeys(measurement.dtype for measurement in bench.measurements))
    towers = [bench.tower] if bench.tower and (bench.tower.conv3d or bench.tower.linear) else []
    width, height, places = _arrange(len(dtypes) + len(towers))
    figure = Figure(figsize=(width, height), layout="constrained")
    *panels, notes = (figure.add_subplot(place) for place in places(figure))
    for panel, dtype in zip(panels, dtypes, strict=False):
        panel.sharey(panels[0])
        _draw_panel(panel, [each for each in bench.measurements if each.dtype == dtype])
        panel.set_title(f"patch embedding, {dtype}", fontsize=10.5)
    for tower in towers:
        _draw_tower(panels[-1], tower)
    _draw_notes(notes, panels[0], list(_list_notes(bench)))
    lines = textwrap.wrap(_title(bench), int(width * _CHARACTERS_PER_INCH))
    figure.suptitle("\n".join(lines), fontsize=11)
    # Text in an SVG stays text.
    with write_errors(path), matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(path, dpi=160)


def _arrange(count: int) -> tuple[float, float, Callable[[Any], list[Any]]]:
    """Arrange panels in rows of two, and the notes in the place that is free, or beside them.

    Returns width and height of the figure in inches, and what makes the places in it.
    """
    columns, rows = min(count, 2), math.ceil(count / 2)
    widths = [_PANEL_INCHES] * columns
    if is_full := count == columns * rows:
        widths.append(_NOTES_INCHES)

    def places(figure: Any) -> list[Any]:
        grid = figure.add_gridspec(rows, len(widths), width_ratios=widths)
        panels = [grid[number // columns, number % columns] for number in range(count)]
        return [*panels, grid[:, -1] if is_full else grid[-1, -1]]

    return sum(widths), rows * _ROW_INCHES, places


def _draw_panel(panel: Any, measurements: list[Measurement]) -> None:
    for field, label, color, marker in _LAYERS:
        timings = [(each.input.patches, getattr(each, field).timing) for each in measurements]
        measured = [(patches, timing) for patches, timing in timings if timing]
        patches = [each for each, _ in measured]
        medians = [timing.median_s * 1e3 for _, timing in measured]
        panel.plot(patches, medians, color=color, marker=marker, label=label, zorder=3)
        panel.fill_between(
            patches,
            [timing.lower_quartile_s * 1e3 for _, timing in measured],
            [timing.upper_quartile_s * 1e3 for _, timing in measured],
            color=color,
            alpha=0.2,
            linewidth=0,
        )
    for measurement in measurements:
        _mark_speedup(panel, measurement)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(_format_tick)
    panel.grid(axis="y", which="major", color="#e3e3e3")
    panel.spines[["top", "right"]].set_visible(False)
    panel.minorticks_off()
    panel.set_xticks(
        [each.input.patches for each in measurements],
        [f"{each.input.patches:,} ({each.input.name})" for each in measurements],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    panel.set_xlabel("patches (input)", fontsize=9)
    panel.set_ylabel("time of one call (ms)", fontsize=9)
    panel.margins(y=0.12)
    counts = [each.input.patches for each in measurements]  # those that were left out, too
    panel.set_xlim(min(counts) / _MARGIN, max(counts) * _MARGIN)


def _mark_speedup(panel: Any, measurement: Measurement) -> None:
    """Write the speed-up above the upper line, or at the bottom that there is none.

    A Conv3d that computes something else has no speed worth a comparison.
    """
    patches = measurement.input.patches
    style = {"ha": "center", "color": _GREY, "zorder": 4}
    conv3d, linear = measurement.conv3d.timing, measurement.linear.timing
    if conv3d is None or linear is None:
        axes = panel.get_xaxis_transform()
        panel.text(patches, 0.02, "left out", transform=axes, rotation=90, fontsize=8, **style)
        return
    low, high = sorted(each.median_s * 1e3 for each in (linear, conv3d))
    panel.plot([patches, patches], [low, high], color=_GREY, linewidth=0.9, linestyle=":")
    panel.annotate(
        "wrong" if measurement.conv3d.is_wrong else _format_speedup(measurement.speedup or 0.0),
        (patches, high),
        xytext=(0, 7),
        textcoords="offset points",
        fontsize=8,
        weight="bold",
        **style,
    )


def _draw_tower(panel: Any, tower: Tower) -> None:
    """Draw the time to the first and to a later embedding; whiskers reach to the quartiles."""
    bars = ("first\nembedding", "later")
    for number, (field, _, color, _) in enumerate(_LAYERS):
        found = getattr(tower, field)
        if found is None:
            continue
        for place, timing in enumerate((found.first, found.later)):
            x, height = place + (number - 0.5) * 0.4, timing.median_s * 1e3
            low, high = timing.lower_quartile_s * 1e3, timing.upper_quartile_s * 1e3
            whiskers = [[height - low], [high - height]]
            panel.bar(x, height, 0.36, color=color, yerr=whiskers, capsize=3, ecolor=_GREY)
            panel.annotate(
                _format_tick(float(f"{height:.3g}"), 0),
                (x, high),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    panel.yaxis.set_major_formatter(_format_tick)
    panel.set_xticks(range(len(bars)), bars, fontsize=9)
    panel.set_ylabel("time of one image (ms)", fontsize=9)
    panel.set_title(f"vision tower, {tower.patches:,} patches", fontsize=10.5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.minorticks_off()
    panel.margins(x=0.12, y=0.15)


def _draw_notes(notes: Any, panel: Any, texts: list[str]) -> None:
    """Put the legend of a panel, and below it the notes, into a place of their own."""
    handles, labels = panel.get_legend_handles_labels()
    notes.axis("off")
    (line,) = notes.plot([], [], color=_GREY, linestyle=":")
    handles, labels = [*handles, line], [*labels, "speed-up of linear"]
    notes.legend(handles, labels, loc="upper left", frameon=False, borderaxespad=0)
    wrapped = ["\n".join(textwrap.wrap(text, _NOTE_CHARACTERS)) for text in texts]
    style = {"va": "top", "fontsize": 7.5, "color": _GREY, "transform": notes.transAxes}
    # However long they are, they do not make the panels smaller.
    notes.text(0.02, 0.78, "\n\n".join(wrapped), in_layout=False, **style)


def _list_notes(bench: Bench) -> Iterator[str]:
    """Say how to read the chart, and name what was left out and what is wrong, each once."""
    yield "Bands and whiskers: lower to upper quartile."
    reasons: dict[str, list[str]] = {}
    for each in bench.measurements:
        for field, layer, _, _ in _LAYERS:
            if reason := getattr(each, field).skipped:
                reasons.setdefault(f"{layer}, {each.dtype}", []).append(
                    f"{each.input.name} ({reason})"
                )
    for what, inputs in reasons.items():
        yield f"Left out, {what}: {'; '.join(inputs)}."
    if any(each.conv3d.is_wrong for each in bench.measurements):
        yield "wrong: Conv3d computes something else than the layer on this machine."
    if bench.tower and bench.tower.skipped:
        yield f"Vision tower: {bench.tower.skipped}."


def _format_speedup(speedup: float) -> str:
    return f"{speedup:,.0f}×" if speedup >= 100 else f"{speedup:.1f}×"


def _format_tick(milliseconds: float, position: int) -> str:
    return f"{milliseconds:,.10g}"


def _title(bench: Bench) -> str:
    environment = bench.environment
    where = environment.device_name
    where += f", {bench.threads} threads" if environment.device == "cpu" else ""
    return (
        f"Patch embedding {list(bench.kernel_shape)}: Conv3d and the same map as a linear layer. "
        f"{where}, {environment.versions}"
    )
