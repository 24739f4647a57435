"""`conv2linear bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group

from conv2linear.cli.bench_table import BenchTable, format_seconds, format_timing
from conv2linear.cli.help import CHECK, REPORT
from conv2linear.cli.options import Debug, Json, Quiet
from conv2linear.cli.output import Output, key_value_table

if TYPE_CHECKING:
    from conv2linear.operations.bench.bench import Bench
    from conv2linear.operations.bench.vision_tower import Tower, TowerTiming

EXAMPLES = """
conv2linear bench --quick
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
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Measure three images for a moment each, without the vision tower: some seconds.",
            rich_help_panel=CHECK,
        ),
    ] = False,
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
        from conv2linear.equivalence.loading_torch import loading_torch  # not for --help

        with loading_torch(progress):
            from conv2linear.operations.bench.bench import bench
        from conv2linear.operations.bench.inputs import QUICK_LIMITS, BenchLimits

        if plot is not None:
            from conv2linear.operations.bench.plot import check_plot, plot_bench

            check_plot(plot)
        # Whoever embeds the command line sets other limits as the context's object.
        limits = context.obj if isinstance(context.obj, BenchLimits) else None
        limits = QUICK_LIMITS if quick else limits
        result = bench(checkpoint, device=device, dtype=dtype, limits=limits, progress=progress)
        if plot is not None:
            plot_bench(result, plot)
    output.result({**result.to_dict(), "plot": plot}, _report(result, plot), is_timed=True)


def _report(bench: Bench, plot: Path | None) -> Group:
    rows = [*_environment_rows(bench), *_tower_rows(bench.tower)]
    if plot is not None:
        rows.append(("chart", str(plot)))
    return Group(BenchTable(bench), key_value_table(*rows))


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
        f"first embedding {format_timing(timing.first)} "
        f"after {format_seconds(timing.load.median_s)} of loading, "
        f"later {format_timing(timing.later)}"
    )
