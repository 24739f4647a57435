"""What can happen to one file of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.checkpoint.header import Header
from conv2linear.sources.base import FileInfo
from conv2linear.text import TextEnum


class Action(TextEnum):
    """What happens to one file."""

    RESHAPE = "reshape"
    EDIT = "edit"
    COPY = "copy"
    NOT_WRITTEN = "not written"  # to an output that holds only what has changed
    OMIT = "omit"


@dataclass(frozen=True)
class PlannedFile:
    """One file of the source and what happens to it.

    A reshaped shard has its new `header`, an edited file its new `text` and its `original`, None
    for a file that the source does not have.
    """

    info: FileInfo
    action: Action
    header: Header | None = None
    original: str | None = None
    text: str | None = None

    @property
    def name(self) -> str:
        """Path of the file below the checkpoint's root."""
        return self.info.name

    @property
    def output_bytes(self) -> int:
        """Size of the file in the output."""
        return self.info.size_bytes if self.text is None else len(self.text.encode())
