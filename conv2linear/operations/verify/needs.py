"""What a check needs of a subject; each function returns it, or says why there is none.

A check that needs something calls the function for it, and the table of checks names it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.loaders import Loader
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.operations.verify.subject import Subject
from conv2linear.record.manifest import MANIFEST_NAME, Manifest


class SkippedError(Exception):
    """A check cannot be made, for the reason that the message gives."""


class NotDoneError(Exception):
    """A check that the caller asked for cannot be made, for the reason that the message gives."""


class NotAskedForError(Exception):
    """A check is made only if the caller asks for it, and the caller has not."""


Need: TypeAlias = Callable[[Subject], object]


def need_checkpoint(subject: Subject) -> Checkpoint:
    """Return the opened checkpoint, of any layout."""
    if subject.checkpoint is None:
        raise SkippedError("the files are not sound")
    return subject.checkpoint


def need_linear(subject: Subject) -> Checkpoint:
    """Return the opened checkpoint if its patch embeddings are linear."""
    checkpoint = need_checkpoint(subject)
    if checkpoint.layout is Layout.CONV3D:
        raise SkippedError("the layout is conv3d")
    return checkpoint


def need_record(subject: Subject) -> Manifest:
    """Return the record of the conversion."""
    if subject.manifest is None:
        raise SkippedError(f"no {MANIFEST_NAME} that says what it should be")
    return subject.manifest


def need_source(subject: Subject) -> Checkpoint:
    """Return the source, if the caller named one."""
    if subject.source is None:
        raise NotAskedForError
    return subject.source


def need_checksums(subject: Subject) -> None:
    """Make sure that the caller asked for checksums."""
    if not subject.options.checksums:
        raise NotAskedForError


def need_engine(subject: Subject, engine: Loader) -> None:
    """Make sure that the caller asked for a run of an engine."""
    if engine not in subject.options.engines:
        raise NotAskedForError
