"""Draw the times as bars, one group for each comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.lib.benchmark.findings import Bar

_OURS, _THEIRS, _SPREAD = "#0072b2", "#9aa0a6", "#202124"
_BAR_INCHES, _GROUP_INCHES, _WIDTH_INCHES = 0.26, 0.5, 8.5
_TITLE_CHARACTERS = 100
_ROOM = 1.8  # beside the shortest and the longest bar, as a factor


def draw(bars: Sequence[Bar], path: Path, *, title: str) -> None:
    """Draw all bars on one logarithmic axis of seconds, to a file that ends in .svg or .png.

    A thin line reaches from the fastest to the slowest run of each.
    """
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    groups: dict[str, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.group, []).append(bar)
    height = 1.2 + len(groups) * _GROUP_INCHES + len(bars) * _BAR_INCHES
    options = {"svg.fonttype": "none", "svg.hashsalt": "conv2linear"}
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        panels = figure.subplots(
            len(groups),
            sharex=True,
            squeeze=False,
            height_ratios=[len(each) + _GROUP_INCHES / _BAR_INCHES for each in groups.values()],
        )[:, 0]
        for panel, (group, members) in zip(panels, groups.items(), strict=True):
            _draw_group(panel, group, members)
        panels[-1].set_xscale("log")
        panels[-1].set_xlim(
            min(bar.fastest_s for bar in bars) / _ROOM, max(bar.slowest_s for bar in bars) * _ROOM
        )
        panels[-1].set_xlabel("seconds until all is on the disk, whole process (logarithmic)")
        plain_title = title.replace("**", "")
        figure.suptitle(textwrap.fill(plain_title, _TITLE_CHARACTERS), fontsize=9)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_group(panel: Any, group: str, bars: Sequence[Bar]) -> None:
    places = range(len(bars))
    medians = [bar.median_s for bar in bars]
    below = [bar.median_s - bar.fastest_s for bar in bars]
    above = [bar.slowest_s - bar.median_s for bar in bars]
    panel.barh(
        places,
        medians,
        height=0.72,
        color=[_OURS if bar.is_ours else _THEIRS for bar in bars],
        xerr=[below, above],
        error_kw={"ecolor": _SPREAD, "elinewidth": 1},
    )
    for place, bar in zip(places, bars, strict=True):
        panel.annotate(
            f"{bar.median_s:.2f} s" if bar.median_s >= 1 else f"{bar.median_s * 1e3:.0f} ms",
            (bar.slowest_s, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    panel.set_yticks(places, [bar.name for bar in bars], fontsize=8.5)
    panel.invert_yaxis()
    panel.set_title(group, loc="left", fontsize=9.5)
    panel.spines[["top", "right"]].set_visible(False)
