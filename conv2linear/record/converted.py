"""Open a checkpoint that a conversion has written: its record, and its files."""

from __future__ import annotations

from dataclasses import replace

from conv2linear.checkpoint.checkpoint import Checkpoint, read_checkpoint
from conv2linear.errors import BadCheckpointError
from conv2linear.record.manifest import MANIFEST_NAME, Manifest, parse_manifest
from conv2linear.sources.base import Repository, named_in_errors, read_optional_text


def read_manifest(repository: Repository) -> Manifest | None:
    """Read the record of a conversion; None where the files have none.

    Raises `BadCheckpointError` where it is not valid.
    """
    with named_in_errors(repository.label):
        text = read_optional_text(repository, MANIFEST_NAME)
        return None if text is None else parse_manifest(text)


def read_text_if_it_is(repository: Repository, name: str) -> str | None:
    """Read what stands in the place of a text that is written, None where nothing does, or no text.

    It may be anything: nobody but a reader needs it.
    """
    try:
        return read_optional_text(repository, name)
    except BadCheckpointError:
        return None


def read_converted(repository: Repository, manifest: Manifest | None) -> Checkpoint:
    """Read a checkpoint that may be an overlay, which only its record says.

    Raises `BadCheckpointError` and `UnsupportedCheckpointError` as `read_checkpoint` does.
    """
    if manifest is None:
        return read_checkpoint(repository)
    return read_checkpoint(repository, is_overlay=manifest.partial, subfolder=manifest.subfolder)


def complete_manifest(manifest: Manifest) -> Manifest:
    """Return the record that an overlay has once the files that it lacks stand beside it."""
    files = sorted((*manifest.files, *manifest.absent), key=lambda record: record.name)
    return replace(manifest, files=tuple(files), absent=(), partial=False)
