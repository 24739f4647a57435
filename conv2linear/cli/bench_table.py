"""The table of `bench`: as many columns as the width has room for, and nothing cut off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

if TYPE_CHECKING:
    from conv2linear.equivalence.timing import Timing
    from conv2linear.operations.bench.bench import Bench
    from conv2linear.operations.bench.measure import LayerResult, Measurement

_WIDE, _MEDIUM = 120, 78  # columns of a terminal


class BenchTable:
    """Both layers on every input: medians, with quartiles where there is room for them."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the table out for the width at hand."""
        width = options.max_width
        if width >= _WIDE:
            columns, what = _WIDE_COLUMNS, "median of one call (quartiles)"
        else:
            columns = _MEDIUM_COLUMNS if width >= _MEDIUM else _NARROW_COLUMNS
            what = "median of one call"
        yield f"Patch embedding {list(self._bench.kernel_shape)}: {what}"
        yield self._table(columns)

    def _table(self, columns: _Columns) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title, _ in columns:
            is_name = title in ("dtype", "input")
            table.add_column(title, justify="left" if is_name else "right", overflow="fold")
        measurements = self._bench.measurements
        for this, following in zip(measurements, [*measurements[1:], None], strict=True):
            is_last = following is None or following.dtype != this.dtype
            table.add_row(*(cell(this) for _, cell in columns), end_section=is_last)
        return table


def format_seconds(seconds: float) -> str:
    """Format a time in seconds or milliseconds."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def format_timing(timing: Timing) -> str:
    """Format a median and its quartiles."""
    if timing.runs == 1:
        return f"{format_seconds(timing.median_s)} (1 run)"
    lower, upper = format_seconds(timing.lower_quartile_s), format_seconds(timing.upper_quartile_s)
    if lower.partition(" ")[2] == upper.partition(" ")[2]:
        lower = lower.partition(" ")[0]
    return f"{format_seconds(timing.median_s)} ({lower} - {upper})"


def _with_quartiles(result: LayerResult) -> str:
    return format_timing(result.timing) if result.timing else f"left out: {result.skipped}"


def _median(result: LayerResult) -> str:
    if result.timing:
        return format_seconds(result.timing.median_s)
    return f"left out: {result.skipped}"


def _speedup(measurement: Measurement) -> str:
    return "" if measurement.speedup is None else f"{measurement.speedup:.1f}x"


def _errors(measurement: Measurement) -> str:
    return f"{_format_ratio(measurement.conv3d)}, {_format_ratio(measurement.linear)}"


def _largest_error(measurement: Measurement) -> str:
    layers = (measurement.conv3d, measurement.linear)
    return _format_ratio(max(layers, key=lambda layer: layer.max_over_bound or 0))


def _format_ratio(result: LayerResult) -> str:
    if result.max_over_bound is None:
        return "-"
    if result.is_wrong:
        return f"[bold red]{result.max_over_bound:.3g} x: WRONG[/]"
    return f"{result.max_over_bound:.1%}"


_Columns = tuple[tuple[str, Callable[["Measurement"], str]], ...]
_START: _Columns = (
    ("dtype", lambda each: each.dtype),
    ("input", lambda each: each.input.name),
    ("patches", lambda each: f"{each.input.patches:,}"),
)
_END: _Columns = (("speed-up", _speedup), ("error / bound", _errors))
_WIDE_COLUMNS: _Columns = (
    *_START,
    ("Conv3d", lambda each: _with_quartiles(each.conv3d)),
    ("linear", lambda each: _with_quartiles(each.linear)),
    *_END,
)
_MEDIANS: _Columns = (
    ("Conv3d", lambda each: _median(each.conv3d)),
    ("linear", lambda each: _median(each.linear)),
)
_MEDIUM_COLUMNS: _Columns = (*_START, *_MEDIANS, *_END)
_NARROW_COLUMNS: _Columns = (
    ("input", lambda each: f"{each.dtype} {each.input.name}"),
    *_MEDIANS,
    ("speed-up", _speedup),
    ("error / bound", _largest_error),
)
