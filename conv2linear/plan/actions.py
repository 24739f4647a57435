"""What can happen to one file of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from conv2linear.checkpoint.header import Header
from conv2linear.result import Result
from conv2linear.sources.base import FileInfo
from conv2linear.text import TextEnum


class Action(TextEnum):
    """What happens to one file."""

    RESHAPE = "reshape"  # the shard gets another header
    EDIT = "edit"  # the text file gets another text
    COPY = "copy"  # byte for byte
    NOT_WRITTEN = "not written"  # to an output that holds only what has changed
    OMIT = "omit"  # it does not belong to the result


WRITING_ACTIONS = (Action.RESHAPE, Action.EDIT, Action.COPY)


@dataclass(frozen=True)
class PlannedFile:
    """One file of the source and what happens to it.

    `output_bytes` is its size in the output. A reshaped shard has its new `header`; an edited file
    has its `original` text, None for a file that the source does not have. One that is left out and
    kept in the record has its `content`.
    """

    info: FileInfo
    action: Action
    output_bytes: int
    header: Header | None = None
    original: str | None = None
    content: bytes | None = None

    @property
    def name(self) -> str:
        """Path of the file below the checkpoint's root."""
        return self.info.name


@dataclass(frozen=True)
class FileChange(Result):
    """What happens to one file, for the reader of a result."""

    name: str
    action: Action
    size_bytes: int


def plan_omitted(names: Iterable[str]) -> Iterator[PlannedFile]:
    """Yield an entry for each name that is not part of a checkpoint, so that results name it."""
    for name in names:
        yield PlannedFile(FileInfo(name, 0, "omitted"), Action.OMIT, 0)


def summarise_files(files: tuple[PlannedFile, ...]) -> tuple[FileChange, ...]:
    """Return name, action and size in the output of each file, and what is left out."""
    return tuple(FileChange(file.name, file.action, file.output_bytes) for file in files)
