"""A picture of errors against their bounds: a bar for each layer, on a scale that ends beyond it.

The bars are SVG that stretches to any width; their labels are text beside them, and so stay
readable on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Iterable

from conv2linear.operations.verify.rendering.facts import LayerErrors
from conv2linear.operations.verify.rendering.tags import Html, join, tag

_BOUND = 100.0  # in the units of the picture
_END = 125.0
_HEIGHT = 10.0


def draw_errors(layers: Iterable[LayerErrors]) -> Html:
    """Return a figure that shows which part of its error bound each layer uses."""
    bars = [join(_label(each), _bar(each)) for each in layers]
    axis = tag(
        "div",
        tag("span", "no error"),
        tag("span", "the bound", style=f"left: {_BOUND / _END:.0%}"),
        class_="axis",
        aria_hidden="true",
    )
    return tag("div", *bars, axis, class_="chart")


def _label(errors: LayerErrors) -> Html:
    beyond = "" if errors.over_bound * _BOUND <= _END else ", beyond this scale"
    return tag(
        "p",
        tag("b", errors.layer),
        f" uses {errors.share} of its bound{beyond}; its largest error is {errors.largest}",
    )


def _bar(errors: LayerErrors) -> Html:
    width = errors.over_bound * _BOUND
    shown = min(width, _END) if width >= 0 else _END  # not a number: it has no place on a scale
    color = "within" if errors.is_within else "over"
    return tag(
        "svg",
        tag("rect", width=_END, height=_HEIGHT, class_="track"),
        tag("rect", width=f"{shown:.2f}", height=_HEIGHT, class_=color),
        tag("line", x1=_BOUND, x2=_BOUND, y1=0, y2=_HEIGHT, class_="bound"),
        viewBox=f"0 0 {_END:g} {_HEIGHT:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{errors.layer}: {errors.share} of its error bound",
    )
