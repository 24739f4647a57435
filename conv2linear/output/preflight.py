"""See whether what is planned can be written to OUT, before anything is written."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from conv2linear.errors import OutputError
from conv2linear.files.clone import can_share_blocks, data_bytes
from conv2linear.files.disk_errors import read_errors, write_errors
from conv2linear.files.mount import mount_id
from conv2linear.output.hidden_folder import refuse_foreign_staging, refuse_other_run, staging_root
from conv2linear.output.replacement import NewOutput, refuse_replacing
from conv2linear.output.target import WriteOptions, refuse_linked_files
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.text import format_bytes

_BLOCK_BYTES = 512  # the unit of st_blocks
_PROTECTED_HARDLINKS = Path("/proc/sys/fs/protected_hardlinks")


def refuse_impossible(
    files: Sequence[PlannedFile], out: Path, options: WriteOptions, *, new: NewOutput
) -> None:
    """Raise `OutputError` where a run would not be able to write these files to OUT.

    OUT may not be replaced, overlaps with files of the source, is being written by another run, or
    lies where this user may not write; the disk has too little space; or the files cannot be
    hard-linked. Raises `SourceUnreadableError` where this user may not read one of them.
    """
    _refuse_unreadable(file.info.path for file in files if file.info.path)
    refuse_linked_files(out, [file.info.path for file in files if file.info.path])
    with write_errors(out):
        if os.path.lexists(out):
            refuse_replacing(out, new)
        if not os.access(out.parent, os.W_OK | os.X_OK):
            _raise_refused(out.parent)
        refuse_foreign_staging(out)
        refuse_other_run(out)
    if options.hardlink:
        _refuse_links(files, out)
    with write_errors(out):
        _refuse_lack_of_space(files, out, options)


def _refuse_unreadable(paths: Iterable[Path]) -> None:
    for path in paths:
        with read_errors(path):
            if not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def linked_path(file: PlannedFile, options: WriteOptions) -> Path | None:
    """Return the file to hard-link, None where a file is copied or downloaded."""
    is_linked = options.hardlink and file.action is Action.COPY
    return file.info.path if is_linked else None


def _raise_refused(folder: Path) -> None:
    """Raise the error of the system that says why a folder may not be written."""
    is_read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    reason = "Read-only file system" if is_read_only else "Permission denied"
    raise OutputError(f"{folder}: {reason}", hint="put OUT where this user may write")


def _refuse_links(files: Iterable[PlannedFile], out: Path) -> None:
    place = out.parent.stat().st_dev, mount_id(out.parent)
    for file in files:
        if file.info.path is None or file.action is not Action.COPY:
            continue
        with read_errors(file.info.path):
            path = file.info.path.resolve()
            status = path.stat()
        if (status.st_dev, mount_id(path)) != place:
            raise OutputError(
                f"{file.name} is on another file system than {out}",
                hint="leave out --hardlink, or put OUT on the file system of the source",
            )
        if not _may_link(path, status):
            raise OutputError(
                f"{file.name} belongs to another user, and this system lets nobody else link it",
                hint="leave out --hardlink",
            )


def _may_link(path: Path, status: os.stat_result) -> bool:
    """Tell whether Linux lets this user link a file; see `protected_hardlinks` in proc(5)."""
    if os.geteuid() in (0, status.st_uid) or not _PROTECTED_HARDLINKS.is_file():
        return True
    is_protected = _PROTECTED_HARDLINKS.read_text().strip() != "0"
    is_plain = not status.st_mode & (stat.S_ISUID | stat.S_ISGID)
    return not is_protected or (is_plain and os.access(path, os.R_OK | os.W_OK))


def _refuse_lack_of_space(files: Sequence[PlannedFile], out: Path, options: WriteOptions) -> None:
    """Raise `OutputError` where the files need more than is free.

    What an earlier run has staged counts as free: it is used again, or removed.
    """
    free = shutil.disk_usage(out.parent).free + _allocated_bytes(staging_root(out))
    copied = [file for file in files if linked_path(file, options) is None]
    if sum(file.output_bytes for file in copied) <= free:
        return
    shared = _devices_that_share_blocks(copied, out.parent)
    needed = sum(_needed_bytes(file, shared) for file in copied)
    if needed > free:
        raise OutputError(
            f"no space for {out}: {format_bytes(needed)} needed, {format_bytes(free)} free, "
            f"{format_bytes(needed - free)} too little",
            hint="free some, put OUT on another disk, or use --hardlink on the source's",
        )


def _needed_bytes(file: PlannedFile, shared: frozenset[int]) -> int:
    path = file.info.path
    if path is None or file.action is Action.EDIT:
        return file.output_bytes
    if path.stat().st_dev in shared:
        return 0
    return min(file.output_bytes, data_bytes(path))  # a copy has the holes of its source


def _devices_that_share_blocks(files: Iterable[PlannedFile], folder: Path) -> frozenset[int]:
    """Return the file systems from which a copy in a folder takes no space of its own."""
    largest: dict[int, PlannedFile] = {}
    for file in files:
        if file.info.path is not None and file.action is not Action.EDIT:
            device = file.info.path.stat().st_dev
            if device not in largest or file.output_bytes > largest[device].output_bytes:
                largest[device] = file
    return frozenset(
        device
        for device, file in largest.items()
        if file.info.path and can_share_blocks(file.info.path, folder)
    )


def _allocated_bytes(root: Path) -> int:
    """Return what the files below a folder take on the disk, but for those that have links."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            status = Path(folder, name).lstat()
            total += status.st_blocks * _BLOCK_BYTES if status.st_nlink == 1 else 0
    return total
