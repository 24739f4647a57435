"""Refuse what a caller asks for and cannot be done, before any work is done for it."""

from __future__ import annotations

import os

from conv2linear.checkpoint.loaders import Loader
from conv2linear.engines.detection import installed_engines
from conv2linear.errors import Conv2LinearError, EngineError, OutputError
from conv2linear.installation import install
from conv2linear.operations.verify.subject import Subject
from conv2linear.record.manifest import MANIFEST_NAME
from conv2linear.sources.folder import Folder


def refuse_impossible(subject: Subject) -> None:
    """Raise an error where a check that the caller asks for cannot be made of this subject.

    Raises `EngineError`, `OutputError` and `Conv2LinearError`.
    """
    for engine in subject.options.engines:
        _refuse_engine(subject, engine)
    if subject.options.checksums and subject.manifest is None and subject.manifest_error is None:
        raise Conv2LinearError(
            f"{subject.repository.label}: no {MANIFEST_NAME}, and so no checksums to compare with",
            hint="leave out --checksums, or compare with the source: --source SOURCE",
        )
    if subject.options.record_checksums:
        _refuse_recording(subject)


def _refuse_engine(subject: Subject, engine: Loader) -> None:
    if engine not in subject.made_for:
        raise EngineError(
            f"{subject.repository.label} is made for {', '.join(subject.made_for)}: that {engine} "
            "does not load it is on purpose",
            hint=f"leave out --engine, or convert the original with `--for {engine}`",
        )
    status = next(status for status in installed_engines() if status.name == engine)
    if status.version is None:
        raise EngineError(f"{engine} is not installed here", hint=install(engine))
    # A version decides about transformers; about an engine with a plugin only a run does.
    if engine is Loader.TRANSFORMERS and not status.loads_linear:
        raise EngineError(
            f"{engine} {status.version} does not load a linear checkpoint: {status.reason}",
            hint=f"`conv2linear engines {engine}` shows whether it does after a change",
        )
    has_source = subject.source or (subject.manifest and subject.manifest.source)
    if subject.is_overlay and not has_source:
        raise EngineError(
            f"{subject.repository.label} is an overlay, which does not load by itself",
            hint="name what it was made from: --source SOURCE",
        )


def _refuse_recording(subject: Subject) -> None:
    if not isinstance(subject.repository, Folder) or subject.repository.origin is not None:
        raise OutputError(
            f"{subject.repository.label} is on the Hub: its record cannot be written from here",
            hint="--checksums compares without writing",
        )
    if not os.access(subject.repository.path, os.W_OK | os.X_OK):
        raise OutputError(
            f"{subject.repository.label} cannot be written to, and its record lies there",
            hint="--checksums compares without writing",
        )
