"""A record is of what was written, even where the source has become another one by then."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv2linear import SourceChangedError, convert, verify
from conv2linear.progress import NoProgress
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint

NOTES = "notes.txt"


class OnceWritten(NoProgress):
    """Changes a file of the source when all files have been written, and none is recorded yet."""

    def __init__(self, path: Path) -> None:
        self.path, self.steps = path, list[str]()

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Change it when the check is all that goes on."""
        if name == "check" and "write" in self.steps:
            self.path.write_text("something else\n")
        self.steps.append(name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "source", kernel=SMALL_KERNEL)
    (folder / NOTES).write_text("as it was\n")
    return folder


def test_has_the_hash_of_what_was_written_and_not_of_what_the_source_is_by_now(
    source: Path, out: Path
) -> None:
    convert(source, out, device="cpu", progress=OnceWritten(source / NOTES))
    assert (source / NOTES).read_text() == "something else\n"
    assert (out / NOTES).read_text() == "as it was\n"
    verification = verify(out, device="cpu")
    assert verification.passed, verification.failed


def test_of_a_file_that_an_overlay_lacks_is_not_made_once_that_has_changed(
    source: Path, out: Path
) -> None:
    progress = OnceWritten(source / NOTES)
    with pytest.raises(SourceChangedError, match=rf"{NOTES}.*changed"):
        convert(source, out, device="cpu", changed_only=True, progress=progress)
    assert not out.exists()
