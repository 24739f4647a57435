"""Write a report on a verification, where that touches no checkpoint."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from conv2linear.errors import OutputError
from conv2linear.files.disk_errors import write_errors
from conv2linear.files.status import is_folder
from conv2linear.operations.verify.rendering.facts import collect_facts
from conv2linear.operations.verify.rendering.markdown import render_markdown
from conv2linear.operations.verify.rendering.page import render_page
from conv2linear.operations.verify.result import Verification
from conv2linear.paths import StrPath, parse_path
from conv2linear.sources.open import find_local
from conv2linear.text import TextEnum


class ReportFormat(TextEnum):
    """How a report is written."""

    MARKDOWN = "markdown"
    HTML = "html"


_SUFFIXES = {
    ".md": ReportFormat.MARKDOWN,
    ".markdown": ReportFormat.MARKDOWN,
    ".html": ReportFormat.HTML,
    ".htm": ReportFormat.HTML,
}
_STEP_SUMMARY = "GITHUB_STEP_SUMMARY"  # a file that GitHub Actions shows on the run's page


def write_report(verification: Verification, path: StrPath) -> None:
    """Write a report, and append it as Markdown to the job summary inside GitHub Actions.

    Args:
        verification: what `verify` has found.
        path: the file to write, .md or .html; one that exists is replaced.

    Raises `OutputError` where the file cannot be written, or would be part of the checkpoint or of
    its source.
    """
    target = check_report(path, verification.checkpoint, verification.source)
    text = render_report(verification, _choose_format(target))
    with write_errors(target), open(target, "w", encoding="utf-8", opener=_open_at_once) as file:
        file.write(text)
    if summary := os.environ.get(_STEP_SUMMARY):
        with write_errors(summary), Path(summary).open("a", encoding="utf-8") as file:
            file.write(render_report(verification) + "\n")


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; one that is a pipe which nobody reads is an error, and not waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def check_report(path: StrPath, *checkpoints: StrPath | None) -> Path:
    """Return where a report goes, if it can be written there; nothing is written yet.

    Raises `OutputError` where it cannot, where its name says no format, and where it would lie in
    one of the folders among `checkpoints` or on one of their files: a checkpoint is only read.
    """
    target = parse_path(path, what="report", error=OutputError)
    with write_errors(target):
        if is_folder(target):
            raise OutputError(f"{target} is a folder", hint="name a file: --report report.md")
        parent = Path(os.path.realpath(target)).parent  # a link may lead elsewhere
        if not is_folder(parent):
            raise OutputError(f"{parent}: no such folder", hint="make it first")
        if not os.access(target if target.exists() else parent, os.W_OK):
            raise OutputError(f"{target} cannot be written", hint="may this user write there?")
        _choose_format(target)
        _try_to_write(target, parent)
    for folder in (find_local(each) for each in checkpoints if each):
        if folder is not None and folder.is_dir() and _is_part(target, folder):
            raise OutputError(
                f"{target} would be part of {folder}, which is only read",
                hint="write the report elsewhere",
            )
    return target


def _try_to_write(target: Path, folder: Path) -> None:
    """Raise `OSError` where a file system lets nobody write, whatever its permissions say.

    As those of the kernel, /proc and /sys. A device or a pipe is left alone: who reads it would
    notice.
    """
    if target.is_file():
        os.close(os.open(target, os.O_WRONLY))
    elif not target.exists():
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            error.filename = str(target)
            raise


def _choose_format(target: Path) -> ReportFormat:
    """Return the format that a name says; a device or a pipe has no say, and gets Markdown."""
    if target.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[target.suffix.lower()]
    if target.exists() and not target.is_file():
        return ReportFormat.MARKDOWN
    raise OutputError(
        f"{target}: the name of a report ends with .md or .html",
        hint="--report report.md, or --report report.html",
    )


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


def render_report(verification: Verification, format: ReportFormat = ReportFormat.MARKDOWN) -> str:
    """Return a report: verdict, what was compared with what, every check, the errors, the hashes.

    Args:
        verification: what `verify` has found.
        format: Markdown, or HTML as a page of its own that needs nothing else. Both say the same.
    """
    return _RENDERERS[format](collect_facts(verification))


_RENDERERS = {ReportFormat.MARKDOWN: render_markdown, ReportFormat.HTML: render_page}
