"""What the checks of one run look at: opened once, and only read from then on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from conv2linear.checkpoint.checkpoint import Checkpoint, open_checkpoint
from conv2linear.checkpoint.loaders import ALL_LOADERS, Loader
from conv2linear.errors import (
    BadCheckpointError,
    CheckFailedError,
    Conv2LinearError,
    UnsupportedCheckpointError,
)
from conv2linear.operations.verify.view_folder import ViewFolder
from conv2linear.parallel import default_workers
from conv2linear.paths import StrPath
from conv2linear.progress import NoProgress, Progress
from conv2linear.record.converted import read_converted, read_manifest
from conv2linear.record.manifest import MANIFEST_NAME, Manifest
from conv2linear.sources.base import Repository
from conv2linear.sources.open import open_source

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence

Engine = Loader  # what can load a checkpoint for a check: all that it is made for
RECORDED = "recorded"  # --source recorded: the repository and commit of the manifest
# What a check finds is an outcome; every other error says that the check could not be made.
FINDINGS = (CheckFailedError, BadCheckpointError, UnsupportedCheckpointError)

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Options:
    """How the checks are made, and which are made beside those that every run has.

    `device` is auto, cpu, cuda or cuda:N; `workers` is a number of threads. `engines` load the
    checkpoint for real.
    """

    device: str = "auto"
    checksums: bool = False
    record_checksums: bool = False
    engines: tuple[Loader, ...] = ()
    workers: int = field(default_factory=default_workers)
    progress: Progress = field(default_factory=NoProgress)


@dataclass(frozen=True)
class Subject:
    """A checkpoint, its record and its source, as far as they could be opened.

    What is wrong with the record or the files stands in `manifest_error` and `checkpoint_error`:
    it is what the checks "record" and "files" find. `equivalences` has the outcome for each linear
    patch embedding, `sha256` the hash of each file by name, where checksums were asked for. `view`
    has what engines load of it; whoever runs the checks closes it.
    """

    repository: Repository
    manifest: Manifest | None = None
    manifest_error: Conv2LinearError | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_error: Conv2LinearError | None = None
    source: Checkpoint | None = None
    options: Options = field(default_factory=Options)
    equivalences: tuple[Equivalence, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    view: ViewFolder = field(default_factory=ViewFolder)

    @property
    def subfolder(self) -> str:
        """The folder that the checkpoint is in, "" where it is the whole."""
        return self.manifest.subfolder if self.manifest else ""

    @property
    def is_overlay(self) -> bool:
        """Whether the record says that these are only the files that the conversion changed."""
        return self.manifest is not None and self.manifest.partial

    @property
    def made_for(self) -> tuple[Loader, ...]:
        """The loaders that the record says it was made for; all, where nothing says which."""
        return ALL_LOADERS if self.manifest is None else self.manifest.made_for


def open_subject(
    checkpoint: StrPath,
    *,
    source: StrPath | None = None,
    options: Options | None = None,
) -> Subject:
    """Open a checkpoint and, if one is named, its source, as `read_subject` does."""
    return read_subject(open_source(checkpoint), source=source, options=options)


def read_subject(
    repository: Repository,
    *,
    source: StrPath | None = None,
    options: Options | None = None,
) -> Subject:
    """Read headers, config and record of a checkpoint and, if one is named, of its source.

    Raises `SourceNotFoundError` and `HubError` for both, and what `open_checkpoint` raises for the
    source.
    """
    manifest, manifest_error = try_to_open(lambda: read_manifest(repository))
    opened, checkpoint_error = try_to_open(lambda: read_converted(repository, manifest))
    return Subject(
        repository,
        manifest=manifest,
        manifest_error=manifest_error,
        checkpoint=opened,
        checkpoint_error=checkpoint_error,
        source=_open_source(source, manifest),
        options=options or Options(),
    )


def _open_source(source: StrPath | None, manifest: Manifest | None) -> Checkpoint | None:
    if source is None:
        return None
    subfolder = manifest.subfolder if manifest else ""
    return open_checkpoint(locate_source(source, manifest), subfolder=subfolder)


def try_to_open(read: Callable[[], Opened]) -> tuple[Opened | None, Conv2LinearError | None]:
    """Return what was read, or the error that says what is wrong with it."""
    try:
        return read(), None
    except FINDINGS as error:
        return None, error


def locate_source(source: StrPath, manifest: Manifest | None) -> StrPath:
    """Return the source that is meant: the one on record, where that is asked for."""
    if source != RECORDED:
        return source
    if manifest is None or manifest.source is None:
        raise Conv2LinearError(
            f"{MANIFEST_NAME} records no source on the Hub",
            hint="name the source: --source FOLDER or --source ORG/NAME",
        )
    return f"{manifest.source.repo_id}@{manifest.source.commit_sha}"
