"""Every error that conv2linear raises: a message of one line, and a hint what to do about it."""

from __future__ import annotations


class Conv2LinearWarning(UserWarning):
    """Something that the user should know and that stops nothing."""


class Conv2LinearError(Exception):
    """What every error of conv2linear is: one line that says what went wrong, and where.

    `message` is that line; `hint` says what to do about it, None where nothing can be said.
    `exit_code` is that of the command line: 1 where a check failed, else 2.
    """

    exit_code: int = 2
    usual_hint: str | None = None  # where the one who raises it has nothing better to say

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint or self.usual_hint


class SourceNotFoundError(Conv2LinearError):
    """The folder, repository or revision does not exist, or may not be read."""


class SourceUnreadableError(Conv2LinearError):
    """A file of the source is there, but the system does not let it be read."""


class HubError(Conv2LinearError):
    """The Hub could not be reached, or did not answer as it should."""


class BadCheckpointError(Conv2LinearError):
    """The checkpoint breaks a rule of its format, or its parts contradict each other."""

    usual_hint = "damaged, or edited by hand? Download or copy it again"


class BadHeaderError(BadCheckpointError):
    """The header of a safetensors file is not valid."""


class UnsupportedCheckpointError(Conv2LinearError):
    """The checkpoint is valid, but not one that can be converted."""


class NothingToConvertError(UnsupportedCheckpointError):
    """The patch embedding is linear already."""


class UnsafeQuantizationError(UnsupportedCheckpointError):
    """The quantisation method would break, or might break, a linear patch embedding."""


class OutputError(Conv2LinearError):
    """The output folder cannot be written: it exists, is full, is busy or may not be touched."""


class SourceChangedError(Conv2LinearError):
    """A source file is no longer what it was when the run began."""


class DeviceError(Conv2LinearError):
    """The device that was asked for does not exist here, or cannot be used."""


class EngineError(Conv2LinearError):
    """The engine that was asked for is not installed here, or cannot load such a checkpoint."""


class CheckFailedError(Conv2LinearError):
    """A check found a difference: nothing has been saved, or the checkpoint is not sound."""

    exit_code = 1
