"""Build a folder under a hidden name and let it appear complete, by one rename.

What is fsynced, and why: each file before the journal names it, so that a run after a power cut
may trust the journal; then the manifest and every folder, so that nothing is missing when the
rename reaches the disk; then the folder that holds OUT, so that the rename itself does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from conv2linear.errors import CheckFailedError, OutputError
from conv2linear.files.disk_errors import as_output_error, write_errors
from conv2linear.files.rename import exchange, remove_tree, rename_new, sync_file
from conv2linear.output.target import WriteOptions, refuse_output
from conv2linear.sources.base import file_fingerprint


class Staging:
    """The hidden folder beside OUT that one run at a time may fill.

    `folder` in it becomes OUT; the journal and downloads that are not complete yet (`scratch`) lie
    beside that, where no file of a checkpoint can have their names. Use it as a context manager:
    entering it raises `OutputError` where OUT may not be written or another run writes it. Leaving
    it publishes nothing and keeps what is staged for the next run, unless a check has failed; it
    turns an `OSError` into an `OutputError`.
    """

    def __init__(self, out: Path, options: WriteOptions | None = None) -> None:
        self.out, self.options = out, options or WriteOptions()
        self.root = out.parent / f".{out.name}.conv2linear"
        self.folder = self.root / "files"
        self.scratch = self.root / "partial"
        self._journal_path = self.root / "journal"
        self._lock: int | None = None
        self._journal: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Staging:
        with write_errors(self.out):
            self._lock = self._acquire()
            try:
                # Another run may have ended between the first look at OUT and the lock.
                refuse_output(self.out, force=self.options.force)
                self.folder.mkdir(exist_ok=True)
                self.scratch.mkdir(exist_ok=True)
                self._journal = self._read_journal()
            except BaseException:
                self._release()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, CheckFailedError):
                with write_errors(self.out):
                    self.discard()
        finally:
            self._release()
        if isinstance(error, OSError):
            raise as_output_error(error, self.out) from error

    def _release(self) -> None:
        """Remove folders that hold nothing, and end the lock."""
        if self._lock is None:
            return
        if _is_same(self._lock, self.root):
            for path in (self.folder, self.scratch, self.root):
                with contextlib.suppress(OSError):
                    path.rmdir()  # only an empty one goes
        os.close(self._lock)
        self._lock = None

    def is_complete(self, name: str, fingerprint: str) -> bool:
        """Tell whether an earlier run left the file that `fingerprint` asks for, untouched."""
        entry = self._journal.get(name)
        path = self.folder / name
        return (
            entry is not None
            and entry["source"] == fingerprint
            and path.is_file()
            and file_fingerprint(path) == entry["staged"]
        )

    def clear_path(self, name: str) -> Path:
        """Return the path for a file that is to be written; whatever was there is removed.

        It must go, not be overwritten: it may be a hard link to a source file.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_tree(path)
        return path

    def write_text(self, name: str, text: str) -> None:
        """Write a small file and sync it."""
        with self.clear_path(name).open("xb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def record(self, name: str, fingerprint: str) -> None:
        """Note in the journal that a file that is synced is what `fingerprint` asks for."""
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

    def publish(self) -> None:
        """Let the folder appear as OUT by one rename.

        An OUT that exists goes at that moment with `force`, and is an `OutputError` without.
        """
        refuse_output(self.out, force=self.options.force)  # it may have appeared meanwhile
        remove_tree(self._journal_path)
        remove_tree(self.scratch)
        for folder, _, _ in os.walk(self.folder):
            sync_file(Path(folder))
        if self.options.force and os.path.lexists(self.out):
            exchange(self.folder, self.out)
        else:
            rename_new(self.folder, self.out)
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


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
