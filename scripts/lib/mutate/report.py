"""Write down which mutants were caught, and why the others change nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conv2linear.text import plural
from scripts.lib.mutate.measure import BUDGET_S, Verdict
from scripts.lib.mutate.reached import Baseline
from scripts.lib.results import describe_machine, format_table, format_versions, write_results

REASONS = Path(__file__).with_name("changes_nothing.json")
LEAST_CAUGHT = 0.95
_PACKAGES = ("conv2linear", "torch", "transformers", "huggingface_hub", "pytest", "hypothesis")


def read_reasons(path: Path = REASONS) -> dict[str, str]:
    """Return why mutants change nothing, by their keys."""
    reasons: dict[str, str] = json.loads(path.read_text())
    return reasons


def is_enough(verdicts: Sequence[Verdict], reasons: Mapping[str, str]) -> bool:
    """Tell whether enough mutants are caught, and every other one is explained."""
    survivors = [verdict for verdict in verdicts if not verdict.caught_by]
    is_explained = all(verdict.mutant.key in reasons for verdict in survivors)
    return is_explained and len(survivors) <= (1 - LEAST_CAUGHT) * len(verdicts)


def write_report(
    folder: Path,
    *,
    command: str,
    verdicts: Sequence[Verdict],
    baseline: Baseline,
    reasons: Mapping[str, str],
) -> Path:
    """Write mutate.md and mutate.json into `folder`; returns the page."""
    machine = describe_machine(_PACKAGES)
    document = {
        "command": command,
        "machine": machine,
        "mutants": [_as_dict(verdict, reasons) for verdict in verdicts],
        "failing_without_a_mutant": list(baseline.failing),
        "longest_s": baseline.longest_s,
        "cut_off": list(baseline.cut_off),
    }
    page = _page(command, machine, verdicts, reasons, baseline=baseline)
    return write_results(folder, "mutate", document=document, page=page)


def _as_dict(verdict: Verdict, reasons: Mapping[str, str]) -> dict[str, Any]:
    mutant = verdict.mutant
    found: dict[str, Any] = {
        "module": mutant.module,
        "line": mutant.line,
        "key": mutant.key,
        "tests": verdict.tests,
        "caught_by": verdict.caught_by,
    }
    return found if verdict.caught_by else found | {"reason": reasons.get(mutant.key)}


def _page(
    command: str,
    machine: Mapping[str, Any],
    verdicts: Sequence[Verdict],
    reasons: Mapping[str, str],
    *,
    baseline: Baseline,
) -> list[str]:
    survivors = [verdict for verdict in verdicts if not verdict.caught_by]
    lines = [
        "# Mutants",
        "",
        f"Made by `{command}`. {format_versions(machine, _PACKAGES)}",
        "",
        "A mutant is one small fault in the code: a comparison, condition or number changed, a "
        "call or `raise` left out, `None` returned. It is caught where one of the tests that "
        "execute its line fails: of those in the file and the folder of its name, of those of the "
        f"promises and of all others as many as take {BUDGET_S:.0f} s. "
        f"{len(verdicts) - len(survivors)} of {len(verdicts)} are caught, "
        f"by {len(baseline.passing)} tests.",
        "",
        *format_table(("folder", "mutants", "caught"), _count_by_folder(verdicts)),
        "",
        *_list_survivors(survivors, reasons),
    ]
    if baseline.cut_off:
        lines += [
            "",
            f"{plural(len(baseline.cut_off), 'test')} took longer than {baseline.longest_s:g} s "
            "without a mutant, and none was judged by them: what only they catch counts as a "
            "survivor. mutate.json names them.",
        ]
    if baseline.failing:
        lines += ["", "Left out, as they fail without a mutant:", ""]
        lines += [f"- `{name}`" for name in baseline.failing]
    return lines


def _count_by_folder(verdicts: Sequence[Verdict]) -> list[tuple[str, int, int]]:
    folders = sorted({_folder(verdict) for verdict in verdicts})
    rows = []
    for folder in folders:
        of_folder = [verdict for verdict in verdicts if _folder(verdict) == folder]
        rows.append((folder, len(of_folder), sum(bool(v.caught_by) for v in of_folder)))
    return rows


def _folder(verdict: Verdict) -> str:
    return str(Path(*Path(verdict.mutant.module).parent.parts[1:]))


def _list_survivors(survivors: Sequence[Verdict], reasons: Mapping[str, str]) -> list[str]:
    if not survivors:
        return ["None survives."]
    lines = ["## Survivors", ""]
    for verdict in survivors:
        mutant = verdict.mutant
        reason = reasons.get(mutant.key, "**not explained: a test is missing**")
        lines.append(f"- {mutant.module}:{mutant.line}: `{mutant.before}` → `{mutant.after}`")
        lines.append(f"  ({verdict.tests} tests were run): {reason}")
    return lines
