"""Write the table of engines into docs/engines.md: `python -m scripts.lib.engine_check.readme`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.lib.engine_check.cases import plan_groups
from scripts.lib.engine_check.engine_process import ENGINES
from scripts.lib.engine_check.report import Row, read_report
from scripts.lib.results import RESULTS, ROOT, format_table

BEGIN = "<!-- made by scripts/check_engine: what is between these marks is not edited by hand -->"
END = "<!-- end -->"
_SHORT = {
    "same tokens and logprobs": "same",
    "same embedding": "same",
    "different tokens": "other answers",
}
_PAIR = ("linear, plugin", "linear, no plugin")
_NAMES = {"vllm": "vLLM", "sglang": "SGLang"}


def render_table(folder: Path) -> str:
    """Return the lines between the marks, from the results in `folder`."""
    rows = [row for engine in ENGINES for row in _engine_rows(folder, engine)]
    heads = ("run here, on CPU", "model", "linear, with the plugin", "without it", "other runs")
    return "\n".join(format_table(heads, rows)) + "\n"


def replace_table(text: str, table: str) -> str:
    """Put a table between the marks of a text. Raises `ValueError` where they are not there."""
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the marks of the table are missing")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _engine_rows(folder: Path, engine: str) -> Iterator[tuple[str, ...]]:
    document = read_report(folder, engine)
    if document is None:
        return
    name = _name_engine(engine, document["machine"])
    for group in plan_groups(engine):
        if group.name not in document["groups"]:
            continue
        rows = [Row(**row) for row in document["groups"][group.name]]
        outcomes = {row.run: _outcome(row) for row in rows if row.expected != "answers"}
        served, refused = (outcomes.pop(run, "not run") for run in _PAIR)
        others = "; ".join(f"{run}: {outcome}" for run, outcome in outcomes.items())
        yield (name, group.title, served, refused, others)


def _name_engine(engine: str, machine: Mapping[str, Any]) -> str:
    package = next(p for p in (f"{engine}-cpu", engine) if machine.get(p))
    return f"{_NAMES[engine]} {machine[package]}" + ("" if package == engine else f" ({package})")


def _outcome(row: Row) -> str:
    if not row.passed:
        return "FAILED"
    if row.expected in ("refused", "pass", "fail"):
        return row.expected
    return _SHORT.get(row.found, row.found)


def main() -> None:
    """Write the table into the page about engines."""
    readme = ROOT / "docs" / "engines.md"
    readme.write_text(replace_table(readme.read_text(), render_table(RESULTS)))


if __name__ == "__main__":
    main()
