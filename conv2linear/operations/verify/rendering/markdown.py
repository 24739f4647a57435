"""A report as Markdown that reads well on GitHub and the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from conv2linear.operations.verify.rendering.facts import Fact, Facts, HashedItem, Numerics
from conv2linear.operations.verify.result import Outcome

_MARKS = {
    Outcome.PASS: "✅ pass",
    Outcome.FAIL: "❌ **fail**",
    Outcome.NOT_DONE: "❌ **not done**",
    Outcome.SKIP: "⚪ skipped",
}
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
# What begins code, emphasis, a link or a picture, a tag or an entity, and what ends a cell. Within
# a word an underscore is one.
_SPECIAL = re.compile(r"[\\`*\[<&|]|(?<!\w)_|_(?!\w)")


def render_markdown(facts: Facts) -> str:
    """Return the report; no text of a checkpoint is read as Markdown or HTML in it."""
    lines = [
        "## Linear patch embedding: verification",
        "",
        f"{_code(facts.checkpoint)}{_verdict(facts)} ({escape(facts.tool)}): {facts.tally}.",
        "",
        *_table(("check", "outcome", "what was found"), _check_rows(facts)),
        "",
        *_list(facts.compared),
    ]
    if facts.loading:
        lines += ["", *_list(facts.loading)]
    for numerics in facts.numerics:
        lines += ["", *_numbers(numerics)]
    for warning in facts.warnings:
        lines += ["", f"> ⚠️ {escape(warning)}"]
    if facts.tensors:
        lines += ["", *_hashes("tensor", "what it is", "SHA-256 on record", facts.tensors)]
    if facts.files:
        lines += ["", f"SHA-256 of the files {escape(facts.hashes_are)}:", ""]
        lines += _hashes("file", "size", "SHA-256", facts.files)
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is, in a cell of a table too."""
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], "\\" + found[0]), text)


def _verdict(facts: Facts) -> str:
    against = f", compared with {_code(facts.source)}" if facts.source is not None else ""
    if facts.faults:
        return f" is **{facts.verdict}**{against}"
    if facts.outcome is Outcome.PASS:
        return f" is {facts.verdict}{against}"
    return f": {facts.verdict}{against}"


def _check_rows(facts: Facts) -> Iterator[tuple[str, ...]]:
    for check in facts.checks:
        yield escape(check.name), _MARKS[check.outcome], escape(check.detail)


def _numbers(numerics: Numerics) -> Iterator[str]:
    yield f"On {escape(numerics.where)}:"
    yield ""
    rows = [(each.layer, each.largest, each.share) for each in numerics.layers]
    yield from _table(("layer", "largest error", "of its bound"), rows)
    if numerics.warning:
        yield ""
        yield f"> ⚠️ {escape(numerics.warning)}"


def _hashes(name: str, about: str, sha256: str, items: Sequence[HashedItem]) -> Iterator[str]:
    rows = [(escape(each.name), escape(each.about), escape(each.sha256)) for each in items]
    return _table((name, about, sha256), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(head)
    yield "|" + "---|" * len(head)
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list(facts: Sequence[Fact]) -> Iterator[str]:
    return (f"- **{fact.label.capitalize()}** {escape(fact.text)}" for fact in facts)


def _code(text: str) -> str:
    """Return a text as code, between more backticks than it has in a row."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"
