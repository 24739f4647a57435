"""Write the planned files of a checkpoint into a staging folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence

from conv2linear.errors import OutputError
from conv2linear.files.clone import can_share_blocks
from conv2linear.output.patch_header import replace_header
from conv2linear.output.staging import Staging
from conv2linear.parallel import map_parallel
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.progress import Progress
from conv2linear.sources.base import Repository, check_unchanged

_WORTH_A_JOURNAL_BYTES = 1 << 20  # a smaller file is written again sooner than it is proven


def write_files(
    files: Sequence[PlannedFile],
    repository: Repository,
    *,
    staging: Staging,
    hardlink: bool,
    workers: int,
    progress: Progress,
) -> None:
    """Stage every file: cloned, hard-linked or downloaded, with its new header or text.

    What an earlier run left whole is used again.
    """
    todo = remaining_files(files, staging)

    def write(file: PlannedFile, on_bytes: Callable[[int], None]) -> None:
        if file.text is not None:
            check_unchanged(file.info)
            staging.write_text(file.name, file.text)
            on_bytes(file.output_bytes)
            return
        target = staging.clear_path(file.name)
        if _is_linked(file, hardlink=hardlink):
            os.link(os.path.realpath(str(file.info.path)), target)
            on_bytes(file.output_bytes)
        else:
            repository.fetch(file.name, target, scratch=staging.scratch, on_bytes=on_bytes)
        check_unchanged(file.info)
        written = target.stat().st_size
        if written != file.info.size_bytes:
            raise OutputError(f"{file.name}: wrote {written} of {file.info.size_bytes} bytes")
        if file.header is not None:
            replace_header(target, file.header)
        if file.info.size_bytes >= _WORTH_A_JOURNAL_BYTES and target.stat().st_nlink == 1:
            staging.record(file.name, staged_identity(file))

    is_remote = any(file.text is None and file.info.path is None for file in todo)
    progress.step("download" if is_remote else "write", sum(file.output_bytes for file in todo))
    largest_first = sorted(todo, key=lambda file: -file.output_bytes)
    map_parallel(write, largest_first, workers=workers, progress=progress)


def prepare_writing(files: Sequence[PlannedFile], staging: Staging, *, hardlink: bool) -> None:
    """Remove what is staged and not wanted, and see whether the rest can be written.

    Raises `OutputError` if the disk has too little space, or cannot hard-link.
    """
    staging.sweep([file.name for file in files])
    todo = remaining_files(files, staging)
    if hardlink:
        _check_hardlinks(todo, staging)
    _check_space(todo, staging, hardlink=hardlink)


def remaining_files(files: Sequence[PlannedFile], staging: Staging) -> list[PlannedFile]:
    """Return the files that an earlier run has not left complete."""
    return [file for file in files if not staging.is_complete(file.name, staged_identity(file))]


def staged_identity(file: PlannedFile) -> str:
    """Name what a staged file must be: this content, under this header."""
    header = file.header.sha256 if file.header else "as it is"
    return f"{file.info.fingerprint} {header}"


def _is_linked(file: PlannedFile, *, hardlink: bool) -> bool:
    return hardlink and file.action is Action.COPY and file.info.path is not None


def _check_hardlinks(files: Sequence[PlannedFile], staging: Staging) -> None:
    device = staging.folder.stat().st_dev
    for file in files:
        if _is_linked(file, hardlink=True) and file.info.path.stat().st_dev != device:  # type: ignore[union-attr]
            raise OutputError(
                f"{file.name} is on another file system than {staging.out}",
                hint="leave out --hardlink, or put OUT on the file system of the source",
            )


def _check_space(files: Sequence[PlannedFile], staging: Staging, *, hardlink: bool) -> None:
    copied = [file for file in files if not _is_linked(file, hardlink=hardlink)]
    local = [file.info.path for file in copied if file.info.path and file.text is None]
    shares = bool(local) and can_share_blocks(local[0], staging.folder)
    needed = sum(f.output_bytes for f in copied if not (shares and f.info.path))
    free = shutil.disk_usage(staging.folder).free
    if needed > free:
        raise OutputError(
            f"no space for {staging.out}: {needed:,} bytes needed, {free:,} free",
            hint="free some, put OUT on another disk, or use --hardlink on the source's",
        )
