"""Build a folder in hiding and let it appear whole, by one rename.

What is fsynced, and why: each file before the journal names it, so that a run after a power cut
may trust the journal; then the manifest and every folder, so that nothing is missing when the
rename reaches the disk; then the folder that holds OUT, so that the rename itself does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType

from conv2linear.checkpoint import file_fingerprint
from conv2linear.cloning import remove_tree, sync_file
from conv2linear.config import CONFIG_NAME
from conv2linear.errors import OutputError

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h


def check_output(out: Path, *, force: bool, source: Path | None) -> None:
    """Raise `OutputError` where OUT may not be written; nothing is touched."""
    if source is not None:
        _check_apart(out, source.resolve())
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder", hint=f"mkdir -p {out.parent}")
    if not os.path.lexists(out):
        return
    if not force:
        raise OutputError(f"{out} exists", hint="choose another name, or replace it with --force")
    is_folder = out.is_dir() and not out.is_symlink()
    if not is_folder or (any(out.iterdir()) and not (out / CONFIG_NAME).is_file()):
        raise OutputError(
            f"{out} exists and is no checkpoint: --force does not replace it",
            hint="choose another name, or remove it yourself",
        )


def local_path(source: str | Path) -> Path | None:
    """Return the path of a source on this machine, None for one on the Hub."""
    return Path(source) if Path(source).exists() else None


def _check_apart(out: Path, source: Path) -> None:
    target = out.resolve()
    if target == source:
        raise OutputError(f"{out} is the source itself", hint="choose another name for the output")
    if source in target.parents:
        raise OutputError(f"{out} is inside the source", hint="choose a place outside of it")
    if target in source.parents:
        raise OutputError(f"{out} contains the source", hint="choose another name for the output")


class Staging:
    """The hidden folder beside OUT that one run at a time may fill.

    `folder` in it becomes OUT; the journal and downloads that are not whole yet (`scratch`) lie
    beside that, where no file of a checkpoint can have their names. Use it as a context manager:
    leaving it publishes nothing, keeps what is staged for the next run, and turns errors of the
    disk into `OutputError`.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.root = out.parent / f".{out.name}.conv2linear"
        self.folder = self.root / "files"
        self.scratch = self.root / "partial"
        self._journal_path = self.root / "journal"
        self._lock: int | None = None
        self._journal: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Staging:
        with disk_errors(self.out):
            self._lock = self._acquire()
            self.folder.mkdir(exist_ok=True)
            self.scratch.mkdir(exist_ok=True)
            self._journal = self._read_journal()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            if _is_same(self._lock, self.root):
                for path in (self.folder, self.scratch, self.root):
                    with contextlib.suppress(OSError):
                        path.rmdir()  # only an empty one goes
            os.close(self._lock)
            self._lock = None
        if isinstance(error, OSError):
            raise _as_output_error(error, self.out) from error

    def is_whole(self, name: str, fingerprint: str) -> bool:
        """Tell whether an earlier run left the file that `fingerprint` asks for, untouched."""
        entry = self._journal.get(name)
        path = self.folder / name
        return (
            entry is not None
            and entry["source"] == fingerprint
            and path.is_file()
            and file_fingerprint(path) == entry["staged"]
        )

    def prepare(self, name: str) -> Path:
        """Return the path for a file that is to be written; whatever was there is removed.

        It must go, not be overwritten: it may be a hard link to a source file.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_tree(path)
        return path

    def write_text(self, name: str, text: str) -> None:
        """Write a small file and see it onto the disk."""
        with self.prepare(name).open("xb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def record(self, name: str, fingerprint: str) -> None:
        """Note in the journal that a file, already on the disk, is what `fingerprint` asks for."""
        staged = file_fingerprint(self.folder / name)
        line = json.dumps({"name": name, "source": fingerprint, "staged": staged}) + "\n"
        descriptor = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sweep(self, keep: Collection[str]) -> None:
        """Remove staged files of earlier runs that this one does not want; `keep` names files."""
        wanted = set(keep)
        for folder, _, names in os.walk(self.folder, topdown=False):
            for name in names:
                path = Path(folder, name)
                if path.relative_to(self.folder).as_posix() not in wanted:
                    path.unlink()
            if folder != str(self.folder):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()  # only an empty one goes

    def discard(self) -> None:
        """Remove everything that is staged."""
        remove_tree(self.root)

    def publish(self, *, replace: bool) -> None:
        """Let the folder appear as OUT by one rename.

        An OUT that exists goes at that moment with `replace`, and is an `OutputError` without.
        """
        check_output(self.out, force=replace, source=None)  # it may have appeared meanwhile
        remove_tree(self._journal_path)
        remove_tree(self.scratch)
        for folder, _, _ in os.walk(self.folder):
            sync_file(Path(folder))
        if replace and os.path.lexists(self.out):
            _exchange(self.folder, self.out)
        else:
            _rename_new(self.folder, self.out)
        sync_file(self.out.parent)
        remove_tree(self.root)  # and in it the old OUT, if there was one

    def _acquire(self) -> int:
        """Make the folder and lock it; the lock ends with the process, however that ends."""
        while True:
            self.root.mkdir(exist_ok=True)
            try:
                # A link in its place is not followed: what it leads to is not ours to sweep.
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                descriptor = os.open(self.root, flags)
            except FileNotFoundError:
                continue  # another run was done with it just now
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise OutputError(
                    f"another run is writing {self.out}", hint="wait for it, or choose another name"
                ) from None
            if _is_same(descriptor, self.root):
                return descriptor
            os.close(descriptor)  # locked a folder that another run had already removed

    def _read_journal(self) -> dict[str, dict[str, str]]:
        try:
            lines = self._journal_path.read_text().splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return {}
        journal = {}
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a torn last line
                entry = json.loads(line)
                journal[entry["name"]] = {"source": entry["source"], "staged": entry["staged"]}
        return journal


@contextlib.contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn an `OSError` into an `OutputError` that says what is wrong with the disk."""
    try:
        yield
    except OSError as error:
        raise _as_output_error(error, out) from error


def _as_output_error(error: OSError, out: Path) -> OutputError:
    where = error.filename or out
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"no space left on the disk of {out}",
            hint="free some and run again: what is written so far is used again",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(
            f"{where}: {error.strerror}", hint="may you read the source and write beside OUT?"
        )
    return OutputError(f"{where}: {error.strerror or error}")


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _rename_new(new: Path, out: Path) -> None:
    """Rename a folder to a name that must be free."""
    try:
        if _rename_at_once(new, out, _RENAME_NOREPLACE):
            return
        if not os.path.lexists(out):
            new.rename(out)
            return
    except FileExistsError:
        pass
    raise OutputError(f"{out} exists by now", hint="it appeared while this run was at work")


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders, at once where the system can."""
    if _rename_at_once(new, old, _RENAME_EXCHANGE):
        return
    # Elsewhere there is one moment without OUT; the old one is whole beside it.
    aside = new.with_name(new.name + "-old")
    remove_tree(aside)
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise


def _rename_at_once(new: Path, out: Path, flags: int) -> bool:
    """Call renameat2; False where system or file system do not have it."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if sys.platform != "linux" or rename is None:
        return False
    if not rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(out), flags):
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), str(out))
