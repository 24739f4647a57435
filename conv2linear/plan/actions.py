"""What can happen to one file of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class FilePlan:
    """What happens to every file: `planned` has an entry for each of the source and the output."""

    planned: tuple[PlannedFile, ...] = field(repr=False)

    @property
    def files(self) -> tuple[FileChange, ...]:
        """Name, action and size of each file."""
        return summarise_files(self.planned)

    @property
    def written(self) -> tuple[PlannedFile, ...]:
        """The files that the output will have, except the record."""
        return self.with_action(*WRITING_ACTIONS)

    @property
    def reshaped(self) -> tuple[PlannedFile, ...]:
        """The shards that get a new header."""
        return self.with_action(Action.RESHAPE)

    def with_action(self, *actions: Action) -> tuple[PlannedFile, ...]:
        """Return the files that one of these actions happens to."""
        return tuple(file for file in self.planned if file.action in actions)

    @property
    def download_bytes(self) -> int:
        """Bytes that have to come from the Hub: what is not on this machine yet."""
        downloaded = self.with_action(Action.RESHAPE, Action.COPY)
        return sum(file.info.size_bytes for file in downloaded if file.info.path is None)

    @property
    def write_bytes(self) -> int:
        """Size of the output without the record; the model card counts as it is now."""
        return sum(file.output_bytes for file in self.written)


def plan_omitted(names: Iterable[str]) -> Iterator[PlannedFile]:
    """Yield an entry for each name that is not part of a checkpoint, so that results name it."""
    for name in names:
        yield PlannedFile(FileInfo(name, 0, "omitted"), Action.OMIT, 0)


def summarise_files(files: tuple[PlannedFile, ...]) -> tuple[FileChange, ...]:
    """Return name, action and size in the output of each file, and what is left out."""
    return tuple(FileChange(file.name, file.action, file.output_bytes) for file in files)
