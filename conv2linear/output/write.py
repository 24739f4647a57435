"""Write the planned files of a checkpoint into a staging folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from conv2linear.errors import OutputError
from conv2linear.files.limits import NO_SPACE
from conv2linear.output.patch_header import replace_header
from conv2linear.output.preflight import linked_path
from conv2linear.output.staging import Staging
from conv2linear.parallel import Returned, map_parallel, run_beside
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.progress import RecordedProgress
from conv2linear.sources.base import Repository, check_unchanged, partial_download_name

_JOURNALED_BYTES = 1 << 20  # writing a smaller file again is faster than syncing a note of it


def prepare_staging(files: Sequence[PlannedFile], staging: Staging) -> None:
    """Remove what is staged and not planned, or not complete.

    Raises `OutputError` where files are to be hard-linked and the file system does not let them.
    """
    left = {file.name for file in remaining_files(files, staging)}
    staging.sweep(
        [file.name for file in files if file.name not in left],
        downloads=[partial_download_name(file.info) for file in files if file.name in left],
    )
    linked = [path for file in files if (path := linked_path(file, staging.options))]
    if linked:
        probe = staging.scratch / "link"
        _link(linked[0], probe)
        probe.unlink()


def write_contents(
    files: Sequence[PlannedFile],
    repository: Repository,
    *,
    staging: Staging,
    progress: RecordedProgress,
    stop: threading.Event | None = None,
) -> None:
    """Stage every file but those with a new text: cloned, linked or downloaded, under its header.

    What an earlier run left complete is used again. Ends soon once `stop` is set.
    """
    remaining = [f for f in remaining_files(files, staging) if f.action is not Action.EDIT]
    remaining.sort(key=lambda file: -file.output_bytes)  # the largest first

    def write(file: PlannedFile, on_bytes: Callable[[int], None]) -> None:
        _write_content(file, repository, staging=staging, on_bytes=on_bytes)

    is_remote = any(not file.info.path for file in remaining)
    total_bytes = sum(file.output_bytes for file in remaining)
    progress.step("download" if is_remote else "write", total_bytes)
    written = _Written(progress, total_bytes, then="hash and flush" if is_remote else "flush")
    workers = staging.options.workers
    try:
        map_parallel(write, remaining, workers=workers, on_bytes=written.advance, stop=stop)
    finally:
        progress.warn_all(repository.warnings)


def write_contents_beside(
    check: Callable[[], Returned],
    files: Sequence[PlannedFile],
    repository: Repository,
    *,
    staging: Staging,
    progress: RecordedProgress,
) -> Returned:
    """Stage files, on whose content nothing depends, while they are checked; return the outcome.

    A check is work for the processor, and staging for the disk or the network. Both are done when
    this returns; where the check raises, staging has stopped.
    """

    def write(stop: threading.Event) -> None:
        write_contents(files, repository, staging=staging, progress=progress, stop=stop)
        progress.step("check")  # which is all that may still go on

    progress.step("check")  # it goes on beside the steps of writing
    return run_beside(check, write)


def write_texts(
    files: Sequence[PlannedFile], texts: Mapping[str, str | bytes], *, staging: Staging
) -> None:
    """Stage the files with a new text; `texts` holds it for each of them by name."""
    for file in files:
        if file.action is Action.EDIT:
            check_unchanged(file.info)
            staging.write_text(file.name, texts[file.name])


class _Written:
    """Counts bytes of the current step, and once all have come, begins the step `then`.

    By then they are with the system; how long it takes to bring them to the disk, nobody knows.
    """

    def __init__(self, progress: RecordedProgress, total_bytes: int, *, then: str) -> None:
        self._progress, self._left_bytes, self._then = progress, total_bytes, then
        self._lock = threading.Lock()

    def advance(self, count_bytes: int) -> None:
        """Count the bytes."""
        self._progress.advance(count_bytes)
        with self._lock:
            before, self._left_bytes = self._left_bytes, self._left_bytes - count_bytes
        if self._left_bytes <= 0 < before:
            self._progress.step(self._then)


def remaining_files(files: Sequence[PlannedFile], staging: Staging) -> list[PlannedFile]:
    """Return the files that an earlier run has not left complete."""
    return [file for file in files if not staging.is_complete(file.name, staged_identity(file))]


def staged_identity(file: PlannedFile) -> str:
    """Name what a staged file must be: this content, under this header."""
    header = file.header.sha256 if file.header else "as it is"
    return f"{file.info.fingerprint} {header}"


def _write_content(
    file: PlannedFile,
    repository: Repository,
    *,
    staging: Staging,
    on_bytes: Callable[[int], None],
) -> None:
    target = staging.clear_path(file.name)
    link = linked_path(file, staging.options)
    if link is not None:
        link = repository.local_path(file.name, on_bytes=lambda _: on_bytes(0))
    if link is not None:
        _link(link, target)
        on_bytes(file.output_bytes)
    else:
        repository.fetch(file.name, target, scratch=staging.scratch, on_bytes=on_bytes)
    check_unchanged(file.info)
    written = target.stat().st_size
    if written != file.info.size_bytes:
        raise OutputError(f"{file.name}: wrote {written} of {file.info.size_bytes} bytes")
    if file.header is not None:
        replace_header(target, file.header)
    if written >= _JOURNALED_BYTES and target.stat().st_nlink == 1:
        staging.record(file.name, staged_identity(file))


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path.resolve())
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise OutputError(
            f"{path} cannot be hard-linked: {error.strerror}", hint="leave out --hardlink"
        ) from error
