"""Write the planned files of a checkpoint into a staging folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from conv2linear.errors import OutputError
from conv2linear.files.clone import can_share_blocks
from conv2linear.output.patch_header import replace_header
from conv2linear.output.staging import Staging
from conv2linear.parallel import map_parallel
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.progress import Progress
from conv2linear.sources.base import Repository, check_unchanged

_JOURNALED_BYTES = 1 << 20  # a smaller file is written again sooner than it is proven


def prepare_staging(files: Sequence[PlannedFile], staging: Staging) -> None:
    """Remove what is staged and not planned, and see whether the rest can be written.

    Raises `OutputError` if the disk has too little space, or cannot hard-link.
    """
    staging.sweep([file.name for file in files])
    remaining = remaining_files(files, staging)
    if staging.options.hardlink:
        _refuse_other_file_system(remaining, staging)
    _refuse_lack_of_space(remaining, staging)


def write_files(
    files: Sequence[PlannedFile],
    repository: Repository,
    *,
    texts: Mapping[str, str],
    staging: Staging,
    progress: Progress,
) -> None:
    """Stage every file: cloned, hard-linked or downloaded, with its new header or text.

    `texts` holds those of the edited files. What an earlier run left complete is used again.
    """
    remaining = remaining_files(files, staging)

    def write(file: PlannedFile, on_bytes: Callable[[int], None]) -> None:
        if file.action is Action.EDIT:
            check_unchanged(file.info)
            staging.write_text(file.name, texts[file.name])
            on_bytes(file.output_bytes)
        else:
            _write_content(file, repository, staging=staging, on_bytes=on_bytes)

    is_remote = any(file.action is not Action.EDIT and not file.info.path for file in remaining)
    total_bytes = sum(file.output_bytes for file in remaining)
    progress.step("download" if is_remote else "write", total_bytes)
    largest_first = sorted(remaining, key=lambda file: -file.output_bytes)
    try:
        map_parallel(write, largest_first, workers=staging.options.workers, progress=progress)
    finally:
        for warning in repository.warnings:
            progress.warn(warning)


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
    link = _linked_path(file, staging)
    if link is not None:
        link = repository.local_path(file.name, on_bytes=lambda _: on_bytes(0))
    if link is not None:
        os.link(os.path.realpath(link), target)
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


def _linked_path(file: PlannedFile, staging: Staging) -> Path | None:
    """Return the file to hard-link, None where a file is copied or downloaded."""
    is_linked = staging.options.hardlink and file.action is Action.COPY
    return file.info.path if is_linked else None


def _refuse_other_file_system(files: Sequence[PlannedFile], staging: Staging) -> None:
    device = staging.folder.stat().st_dev
    for file in files:
        path = _linked_path(file, staging)
        if path is not None and path.stat().st_dev != device:
            raise OutputError(
                f"{file.name} is on another file system than {staging.out}",
                hint="leave out --hardlink, or put OUT on the file system of the source",
            )


def _refuse_lack_of_space(files: Sequence[PlannedFile], staging: Staging) -> None:
    copied = [file for file in files if _linked_path(file, staging) is None]
    local = [file.info.path for file in copied if file.info.path and file.action is not Action.EDIT]
    shares = bool(local) and can_share_blocks(local[0], staging.folder)
    needed = sum(file.output_bytes for file in copied if not (shares and file.info.path))
    free = shutil.disk_usage(staging.folder).free
    if needed > free:
        raise OutputError(
            f"no space for {staging.out}: {needed:,} bytes needed, {free:,} free",
            hint="free some, put OUT on another disk, or use --hardlink on the source's",
        )
