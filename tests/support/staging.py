"""What a test sees of a staging folder from outside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert
from tests.support.contents import read_files
from tests.support.progress import AtStep, interrupt_run


def journaled(folder: Path) -> list[Path]:
    """Return the files that a journal has a line for: those of 1 MiB or more."""
    return [path for path in sorted(folder.iterdir()) if path.stat().st_size >= 1 << 20]


def staging_root(out: Path) -> Path:
    """Return the hidden folder beside OUT."""
    return out.parent / f".{out.name}.conv2linear"


def staging_folder(out: Path) -> Path:
    """Return the folder that becomes OUT."""
    return staging_root(out) / "files"


def journal_of(out: Path) -> Path:
    """Return the file that says what is staged completely."""
    return staging_root(out) / "journal"


def interrupt(checkpoint: Path, out: Path, **options: Any) -> Path:
    """Run a conversion that is interrupted when all is staged; return the staging folder."""
    progress = AtStep("read back", interrupt_run)
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, out, device="cpu", progress=progress, **options)
    assert not out.exists()
    return staging_folder(out)


def assert_converted(checkpoint: Path, out: Path) -> None:
    """Check that the output is what a run without any trouble gives, and that nothing else is."""
    expected = out.parent.parent / "expected"
    convert(checkpoint, expected, device="cpu")
    assert read_files(expected) == read_files(out)
    assert list(out.parent.iterdir()) == [out]
    shutil.rmtree(expected)


def inodes(folder: Path) -> dict[str, int]:
    """Return which file is behind each name."""
    return {path.name: path.stat().st_ino for path in folder.iterdir()}
