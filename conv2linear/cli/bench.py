"""`conv2linear bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.table import Table

from conv2linear.cli.help import CHECK, REPORT
from conv2linear.cli.options import Debug, Json, Quiet
from conv2linear.cli.output import Output, key_value_table

if TYPE_CHECKING:
    from conv2linear.equivalence.timing import Timing
    from conv2linear.operations.bench.bench import Bench
    from conv2linear.operations.bench.measure import LayerResult, Measurement
    from conv2linear.operations.bench.vision_tower import Tower, TowerTiming

EXAMPLES = """
conv2linear bench
conv2linear bench ./GLM-4.1V-9B --dtype bf16 --plot bench.png
"""


def bench_command(
    context: typer.Context,
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[CHECKPOINT]",
            help="A folder: measure its layer and its vision tower. Without one, a layer of "
            "GLM-4.5V's size.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="auto|cpu|cuda|cuda:N",
            help="Where to measure.",
            rich_help_panel=CHECK,
        ),
    ] = "auto",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="bf16|fp16|fp32",
            help="Measure this one only; all three if not given.",
            rich_help_panel=CHECK,
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE.png|FILE.svg",
            help="Draw a chart.",
            rich_help_panel=REPORT,
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure Conv3d against the linear layer on the patches of real images, about a minute."""
    output = Output("bench", json=json, quiet=quiet, debug=debug)
    with output.running() as progress:
        from conv2linear.operations.bench.bench import bench  # loads torch
        from conv2linear.operations.bench.inputs import BenchLimits

        if plot is not None:
            from conv2linear.operations.bench.plot import check_plot, plot_bench

            check_plot(plot)
        # Whoever embeds the command line sets other limits as the context's object.
        limits = context.obj if isinstance(context.obj, BenchLimits) else None
        result = bench(checkpoint, device=device, dtype=dtype, limits=limits, progress=progress)
        if plot is not None:
            plot_bench(result, plot)
    output.result({**result.to_dict(), "plot": plot}, _report(result, plot))


def _report(bench: Bench, plot: Path | None) -> Group:
    rows = [*_environment_rows(bench), *_tower_rows(bench.tower)]
    if plot is not None:
        rows.append(("chart", str(plot)))
    return Group(_table(bench), key_value_table(*rows))


def _table(bench: Bench) -> Table:
    table = Table(
        title=f"Patch embedding {list(bench.kernel_shape)}: median of one call (quartiles)",
        title_justify="left",
    )
    table.add_column("dtype")
    table.add_column("input")
    for name in ("patches", "Conv3d", "linear", "speed-up"):
        table.add_column(name, justify="right")
    table.add_column("error / bound", justify="right")
    for number, measurement in enumerate(bench.measurements):
        is_last = (
            measurement is bench.measurements[-1]
            or bench.measurements[number + 1].dtype != measurement.dtype
        )
        table.add_row(*_cells(measurement), end_section=is_last)
    return table


def _cells(measurement: Measurement) -> tuple[str, ...]:
    return (
        measurement.dtype,
        measurement.input.name,
        f"{measurement.input.patches:,}",
        _format_layer(measurement.conv3d),
        _format_layer(measurement.linear),
        "" if measurement.speedup is None else f"{measurement.speedup:.1f}x",
        f"{_format_ratio(measurement.conv3d)}, {_format_ratio(measurement.linear)}",
    )


def _format_layer(result: LayerResult) -> str:
    if result.timing is None:
        return f"left out: {result.skipped}"
    return _format_timing(result.timing)


def _format_timing(timing: Timing) -> str:
    if timing.runs == 1:
        return f"{_format_seconds(timing.median_s)} (1 run)"
    quartiles = (
        f"{_format_seconds(timing.lower_quartile_s)} - {_format_seconds(timing.upper_quartile_s)}"
    )
    return f"{_format_seconds(timing.median_s)} ({quartiles})"


def _format_ratio(result: LayerResult) -> str:
    if result.max_over_bound is None:
        return "-"
    if result.is_wrong:
        return f"[bold red]{result.max_over_bound:.3g} x: WRONG[/]"
    return f"{result.max_over_bound:.1%}"


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _environment_rows(bench: Bench) -> list[tuple[str, str]]:
    environment = bench.environment
    threads = f", {bench.threads} threads" if environment.device == "cpu" else ""
    return [
        ("layer", bench.source or "random weights of GLM-4.5V's size"),
        ("device", f"{environment.device} ({environment.device_name}{threads})"),
        ("versions", environment.versions),
    ]


def _tower_rows(tower: Tower | None) -> list[tuple[str, str]]:
    if tower is None:
        return [("vision tower", "not measured: give the folder of a checkpoint")]
    layers = (("Conv3d", tower.conv3d), ("linear", tower.linear))
    rows = [
        (f"tower, {name}", f"{tower.patches:,} patches: {_format_tower(timing)}")
        for name, timing in layers
        if timing
    ]
    if tower.skipped:
        rows.append(("vision tower", f"not measured: {tower.skipped}"))
    return rows


def _format_tower(timing: TowerTiming) -> str:
    return (
        f"first embedding {_format_timing(timing.first)} "
        f"after {_format_seconds(timing.load.median_s)} of loading, "
        f"later {_format_timing(timing.later)}"
    )
