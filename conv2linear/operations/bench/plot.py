"""Draw a `Bench`: time against patches, for both layers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from conv2linear.errors import Conv2LinearError
from conv2linear.files.disk_errors import write_errors
from conv2linear.operations.bench.bench import Bench
from conv2linear.operations.bench.measure import Measurement
from conv2linear.paths import StrPath, parse_path

_SUFFIXES = (".png", ".svg")
_LAYERS = (("conv3d", "Conv3d", "#d55e00", "o"), ("linear", "linear", "#0072b2", "s"))
_GREY = "#5f6368"
_PANEL_INCHES = (4.9, 4.9)


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
    if not path.parent.is_dir():
        raise Conv2LinearError(f"{path.parent} is not a folder", hint=f"mkdir -p {path.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise Conv2LinearError(
            "a chart needs matplotlib, which is not installed",
            hint="pip install conv2linear[plot]",
        )
    return path


def plot_bench(bench: Bench, path: StrPath) -> None:
    """Draw one log-log panel for each dtype, with the speed-up between the lines.

    The bands reach from the lower to the upper quartile.

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
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(max(width * len(dtypes), 6.4), height), layout="constrained")
    panels = figure.subplots(1, len(dtypes), sharex=True, sharey=True, squeeze=False)[0]
    for panel, dtype in zip(panels, dtypes, strict=True):
        _draw_panel(panel, [each for each in bench.measurements if each.dtype == dtype])
        panel.set_title(dtype)
    panels[0].set_ylabel("time of one call (ms)")
    panels[0].plot([], [], color=_GREY, linestyle=":", label="speed-up (×) of linear")
    panels[0].legend(loc="upper left", frameon=False)
    figure.suptitle(_title(bench), fontsize=12)
    figure.supxlabel("patches (input)", fontsize=10)
    # Text in an SVG stays text.
    with write_errors(path), matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(path, dpi=160)


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
    panel.margins(x=0.09, y=0.12)


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
        "Conv3d wrong" if measurement.conv3d.is_wrong else f"{measurement.speedup:.1f}×",
        (patches, high),
        xytext=(0, 7),
        textcoords="offset points",
        fontsize=8.5,
        weight="bold",
        **style,
    )


def _format_tick(milliseconds: float, position: int) -> str:
    return f"{milliseconds:,.10g}"


def _title(bench: Bench) -> str:
    environment = bench.environment
    where = environment.device_name
    where += f", {bench.threads} threads" if environment.device == "cpu" else ""
    return (
        f"Patch embedding {list(bench.kernel_shape)}: Conv3d and the same map as a linear layer\n"
        f"{where}, {environment.versions}"
    )
