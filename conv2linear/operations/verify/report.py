"""Write a verification as Markdown that reads well on GitHub and the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from conv2linear.checkpoint.compatibility import describe
from conv2linear.errors import OutputError
from conv2linear.files.disk_errors import write_errors
from conv2linear.operations.verify.result import Outcome, Verification
from conv2linear.paths import StrPath, parse_path
from conv2linear.sources.open import find_local
from conv2linear.version import __version__

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence

_MARKS = {
    Outcome.PASS: "✅ pass",
    Outcome.FAIL: "❌ **fail**",
    Outcome.NOT_DONE: "❌ **not done**",
}
_STEP_SUMMARY = "GITHUB_STEP_SUMMARY"  # a file that GitHub Actions shows on the run's page


def write_report(verification: Verification, path: StrPath) -> None:
    """Write a report as Markdown, and append it to the job summary inside GitHub Actions.

    Args:
        verification: what `verify` has found.
        path: the file to write; one that exists is replaced.

    Raises `OutputError` where the file cannot be written, or would be part of the checkpoint or of
    its source.
    """
    text = render_report(verification)
    target = check_report(path, verification.checkpoint, verification.source)
    with write_errors(target):
        target.write_text(text, encoding="utf-8")
    if summary := os.environ.get(_STEP_SUMMARY):
        with write_errors(summary), Path(summary).open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def check_report(path: StrPath, *checkpoints: StrPath | None) -> Path:
    """Return where a report goes, if it can be written there; nothing is written yet.

    Raises `OutputError` where it cannot, and where it would lie in one of the folders among
    `checkpoints` or on one of their files: a checkpoint is only read.
    """
    target = parse_path(path, what="report", error=OutputError)
    with write_errors(target):
        if target.is_dir():
            raise OutputError(f"{target} is a folder", hint="name a file: --report report.md")
        if not target.parent.is_dir():
            raise OutputError(f"{target.parent}: no such folder", hint="make it first")
        if not os.access(target if target.exists() else target.parent, os.W_OK):
            raise OutputError(f"{target} cannot be written", hint="may this user write there?")
    for folder in (find_local(each) for each in checkpoints if each):
        if folder is not None and folder.is_dir() and _is_part(target, folder):
            raise OutputError(
                f"{target} would be part of {folder}, which is only read",
                hint="write the report elsewhere",
            )
    return target


def _is_part(target: Path, folder: Path) -> bool:
    """Tell whether a file lies in a folder, or is one of its files under another name."""
    real = Path(os.path.realpath(target))
    if real.is_relative_to(os.path.realpath(folder)):
        return True
    if not real.is_file():
        return False
    return any(os.path.samestat(real.stat(), each.stat()) for each in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(parent, name)).is_file())


def render_report(verification: Verification) -> str:
    """Return a report as Markdown: all checks, the errors against their bounds, both speeds.

    Args:
        verification: what `verify` has found.
    """
    verdict = f": {verification.verdict}"
    if verification.exit_code:
        verdict = f" is **{verification.verdict}**"
    elif verification.is_compared:
        verdict = f" is {verification.verdict}"
    against = f", compared with `{verification.source}`" if verification.source else ""
    lines = [
        "## Linear patch embedding: verification",
        "",
        f"`{verification.checkpoint}`{verdict}{against} (conv2linear {__version__}).",
        "",
        "| check | outcome | what was found |",
        "|---|---|---|",
    ]
    lines += [
        f"| {check.name} | {_MARKS.get(check.outcome, '⚪ skipped')} | {_cell(check.detail)} |"
        for check in verification.checks
    ]
    lines += [
        f"\n**{label.capitalize()}** {text}" for label, text in describe(verification.compatibility)
    ]
    for equivalence in verification.equivalences:
        lines += _numbers(equivalence)
    return "\n".join(lines) + "\n"


def _numbers(equivalence: Equivalence) -> list[str]:
    rows = [
        (name, error, seconds)
        for name, error, seconds in (
            ("linear", equivalence.linear, equivalence.linear_s),
            ("Conv3d", equivalence.conv3d, equivalence.conv3d_s),
        )
        if error is not None
    ]
    if not rows:
        return []
    lines = [
        "",
        f"On {equivalence.environment.describe()}, {equivalence.sampled_patches} sampled patches "
        f"in {equivalence.dtype}:",
        "",
        f"| layer | largest error | of its bound | time for {equivalence.speed_patches} patches |",
        "|---|---|---|---|",
    ]
    for name, error, seconds in rows:
        time = f"{seconds * 1e3:.2f} ms" if seconds else ""
        lines.append(f"| {name} | {error.max_abs:.3g} | {error.max_over_bound:.1%} | {time} |")
    if equivalence.warning:
        lines += ["", f"> ⚠️ {equivalence.warning}"]
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
