"""What `restore` returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conv2linear.plan.actions import FileChange
from conv2linear.result import Result


@dataclass(frozen=True)
class Restoration(Result):
    """A finished restoration.

    It is `exact` where a record said what each file was, and `partial` where the source was an
    overlay; `files` says what happened to each file of `out`. `sizes_only` names the files of which
    the record has a size and no hash, so that another content of the same size would not show;
    `omitted` what the checkpoint has and `out` lacks; folders end with a slash.
    """

    source: str
    out: Path
    exact: bool
    partial: bool
    files: tuple[FileChange, ...]
    sizes_only: tuple[str, ...]
    omitted: tuple[str, ...]
    warnings: tuple[str, ...]
