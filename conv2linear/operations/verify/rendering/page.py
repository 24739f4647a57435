"""A report as one page of HTML that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from conv2linear.operations.verify.rendering.chart import draw_errors
from conv2linear.operations.verify.rendering.facts import Fact, Facts, HashedItem, Numerics
from conv2linear.operations.verify.rendering.style import STYLE
from conv2linear.operations.verify.rendering.tags import Html, join, tag
from conv2linear.operations.verify.result import Outcome

_CLASSES = {
    Outcome.PASS: "pass",
    Outcome.FAIL: "fail",
    Outcome.NOT_DONE: "fail",
    Outcome.SKIP: "skip",
}
_MARKS = {"pass": "✓", "fail": "✗", "skip": "–"}
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
"""


def render_page(facts: Facts) -> str:
    """Return the report; no text of a checkpoint is read as HTML in it."""
    title = tag("title", f"{facts.checkpoint}: {facts.verdict}")
    body = tag("main", *_sections(facts))
    return f"{_HEAD}{title}\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"


def _sections(facts: Facts) -> Iterator[Html]:
    yield _verdict(facts)
    yield _section("What was checked", _definitions(facts.compared))
    if facts.numerics:
        yield _section(
            "Errors against their bounds",
            tag(
                "p",
                "Both layers against float64. A bound is what rounding alone explains; an error "
                "beyond it would be another computation.",
            ),
            *map(_numbers, facts.numerics),
        )
    if facts.warnings:
        yield _section("Warnings", tag("ul", *(tag("li", each) for each in facts.warnings)))
    yield _section("Checks", _table(("check", "outcome", "what was found"), _check_rows(facts)))
    if facts.loading:
        yield _section("Where it loads", _definitions(facts.loading))
    if facts.tensors:
        head = ("tensor", "what it is", "SHA-256 on record")
        yield _section("Patch embedding", _table(head, map(_hash_cells, facts.tensors)))
    if facts.files:
        yield _files(facts)
    yield tag("footer", f"Verified by {facts.tool}.")


def _verdict(facts: Facts) -> Html:
    kind = _CLASSES[facts.outcome]
    against = f"Compared with {facts.source}. " if facts.source is not None else ""
    return tag(
        "header",
        tag("h1", tag("span", _MARKS[kind], aria_hidden="true"), facts.verdict.capitalize()),
        tag("p", facts.checkpoint, class_="name"),
        tag("p", f"{against}{facts.tally}."),
        _definitions(facts.faults) if facts.faults else "",
        class_=kind,
    )


def _numbers(numerics: Numerics) -> Html:
    return tag(
        "figure",
        draw_errors(numerics.layers),
        tag("figcaption", numerics.where),
        tag("p", numerics.warning, class_="warning") if numerics.warning else "",
    )


def _check_rows(facts: Facts) -> Iterator[Sequence[str]]:
    for check in facts.checks:
        kind = _CLASSES[check.outcome]
        badge = tag("span", f"{_MARKS[kind]} {check.outcome}", class_=f"badge {kind}")
        yield check.name, badge, check.detail


def _files(facts: Facts) -> Html:
    summary = tag("summary", f"{len(facts.files)} files, SHA-256 {facts.hashes_are}")
    table = _table(("file", "size", "SHA-256"), map(_hash_cells, facts.files))
    return _section("Files", tag("details", summary, table))


def _hash_cells(item: HashedItem) -> Sequence[str]:
    return item.name, item.about, tag("code", item.sha256)


def _section(title: str, *content: str) -> Html:
    return tag("section", tag("h2", title), *content)


def _definitions(facts: Iterable[Fact]) -> Html:
    return tag("dl", *(join(tag("dt", each.label), tag("dd", each.text)) for each in facts))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    written = (tag("tr", *(tag("td", cell) for cell in row)) for row in rows)
    titles = tag("tr", *(tag("th", each, scope="col") for each in head))
    return tag("table", tag("thead", titles), tag("tbody", *written))
