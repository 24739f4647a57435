"""Build a folder under a hidden name and let it appear complete, by one rename.

What is fsynced, and why: each file before the journal names it, so that a run after a power cut
may trust the journal; then the manifest and every folder, so that nothing is missing when the
rename reaches the disk; then the folder that holds OUT, so that the rename itself does.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from conv2linear.errors import CheckFailedError, OutputError
from conv2linear.files.disk_errors import as_output_error, write_errors
from conv2linear.files.lock import FolderLock
from conv2linear.files.rename import exchange, finish_exchange, remove_tree, rename_new
from conv2linear.files.sync import sync_descriptor, sync_file
from conv2linear.output.hidden_folder import (
    ASIDE,
    FILES,
    JOURNAL,
    NEW,
    PARTIAL,
    other_run,
    refuse_foreign_staging,
    staging_root,
)
from conv2linear.output.private import (
    fresh_folder,
    is_plain,
    keep_files,
    open_private_folder,
)
from conv2linear.output.replacement import NewOutput, refuse_replacing
from conv2linear.output.target import WriteOptions, refuse_output
from conv2linear.sources.base import status_fingerprint


class Staging:
    """The hidden folder beside OUT that one run at a time may fill, and this user alone.

    `folder` in it becomes OUT; the journal and downloads that are not complete yet (`scratch`) lie
    beside that, where no file of a checkpoint can have their names. Use it as a context manager:
    entering it raises `OutputError` where OUT may not be written, or not be replaced by `new`,
    or another run writes it. Leaving it publishes nothing and keeps what is staged for the next
    run, unless a check has failed; it turns an `OSError` into an `OutputError`.
    """

    def __init__(self, out: Path, options: WriteOptions, *, new: NewOutput) -> None:
        # The working directory may be in the old OUT, which moves, or be changed meanwhile.
        self.out = out.parent.resolve() / out.name
        self.options, self._new = options, new
        self.root = staging_root(self.out)
        self.folder = self.root / FILES
        self.scratch = self.root / PARTIAL
        self._aside = self.root / ASIDE
        self._journal_path = self.root / JOURNAL
        self._descriptor: int | None = None
        self._lock: FolderLock | None = None
        self._journal: dict[str, dict[str, str]] = {}
        self._staged: set[str] = set()  # what this run has written, or found complete

    def __enter__(self) -> Staging:
        with write_errors(self.out):
            self._descriptor = self._acquire()
            try:
                self._prepare(os.fstat(self._descriptor))
            except BaseException:
                self._release()
                raise
        return self

    def _prepare(self, root: os.stat_result) -> None:
        refuse_foreign_staging(self.out)
        finish_exchange(self.folder, self.out, aside=self._aside)
        # Another run may have ended between the first look at OUT and the lock.
        self._refuse_output()
        fresh_folder(self.folder, parent=root)
        fresh_folder(self.scratch, parent=root)
        if not is_plain(self._journal_path):
            remove_tree(self._journal_path)
        self._journal = self._read_journal()

    def _refuse_output(self) -> None:
        refuse_output(self.out, force=self.options.force)
        if os.path.lexists(self.out):
            refuse_replacing(self.out, self._new)

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
        if self._descriptor is None:
            return
        if _is_same(self._descriptor, self.root):
            for path in (self.folder, self.scratch, self.root):
                with contextlib.suppress(OSError):
                    path.rmdir()  # only an empty one goes
        os.close(self._descriptor)
        if self._lock is not None:
            self._lock.release()
        self._descriptor = self._lock = None

    def is_complete(self, name: str, fingerprint: str) -> bool:
        """Tell whether an earlier run left the file that `fingerprint` asks for, untouched."""
        entry = self._journal.get(name)
        path = self.folder / name
        return (
            entry is not None
            and entry["source"] == fingerprint
            and self._has_no_link(path)
            and status_fingerprint(path.lstat()) == entry["staged"]
        )

    def clear_path(self, name: str) -> Path:
        """Return the path for a file that is to be written; whatever was there is removed.

        It must go, not be overwritten: it may be a hard link to a source file.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_tree(path)
        self._staged.add(name)
        return path

    def write_text(self, name: str, text: str | bytes) -> None:
        """Write a small file and sync it."""
        with self.clear_path(name).open("xb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
            file.flush()
            sync_descriptor(file.fileno())

    def record(self, name: str, fingerprint: str) -> None:
        """Note in the journal that a file that is synced is what `fingerprint` asks for."""
        staged = status_fingerprint((self.folder / name).lstat())
        line = json.dumps({"name": name, "source": fingerprint, "staged": staged}) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(self._journal_path, flags, 0o600)
        try:
            os.write(descriptor, line.encode())
            sync_descriptor(descriptor)
        finally:
            os.close(descriptor)

    def sweep(self, complete: Collection[str], *, downloads: Collection[str] = ()) -> None:
        """Remove all that earlier runs left, but for `complete` files and begun `downloads`.

        `downloads` are names in `scratch`.
        """
        self._staged = set(complete)
        keep_files(self.folder, complete)
        keep_files(self.scratch, downloads)

    def discard(self) -> None:
        """Remove everything that is staged."""
        remove_tree(self.root)

    def publish(self) -> tuple[str, ...]:
        """Let the folder appear as OUT by one rename; return warnings.

        An OUT that exists goes at that moment with `force`, and is an `OutputError` without.
        """
        self._refuse_output()  # it may have appeared, or changed, meanwhile
        remove_tree(self._journal_path)
        remove_tree(self.scratch)
        self._refuse_foreign_files()
        self._set_mode()
        for folder, _, _ in os.walk(self.folder):
            sync_file(Path(folder))
        if self.options.force and os.path.lexists(self.out):
            exchange(self.folder, self.out, aside=self._aside)
        else:
            rename_new(self.folder, self.out)
        sync_file(self.out.parent)
        try:
            remove_tree(self.root)  # and in it the old OUT, if there was one
        except OSError as error:
            return (f"{self.out} is complete; what it replaced is left in {self.root}: {error}",)
        return ()

    def _refuse_foreign_files(self) -> None:
        """Raise `OutputError` where not exactly what this run has staged is about to appear."""
        found = set()
        for folder, subfolders, names in os.walk(self.folder):
            links = [name for name in subfolders if Path(folder, name).is_symlink()]
            for name in (*names, *links):
                path = Path(folder, name)
                found.add(path.relative_to(self.folder).as_posix())
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise OutputError(f"{path} has become a link or another thing meanwhile")
        if found != self._staged:
            name = min(found ^ self._staged)
            what = "appeared" if name in found else "vanished"
            raise OutputError(f"{self.folder / name} has {what} meanwhile", hint="run it again")

    def _set_mode(self) -> None:
        """Give the folder, which an earlier run may have made, the permissions of a new one."""
        fresh = self.root / NEW
        remove_tree(fresh)
        fresh.mkdir()
        mode = stat.S_IMODE(fresh.stat().st_mode)
        fresh.rmdir()
        if stat.S_IMODE(self.folder.stat().st_mode) != mode:
            self.folder.chmod(mode)

    def _has_no_link(self, path: Path) -> bool:
        """Tell whether a path leads to a regular file by folders alone."""
        between = [each for each in path.parents if each.is_relative_to(self.folder)]
        return is_plain(path) and not any(folder.is_symlink() for folder in between)

    def _acquire(self) -> int:
        """Make the folder and lock it; the lock ends with the process, however that ends."""
        while True:
            try:
                descriptor = open_private_folder(self.root)
            except FileNotFoundError:
                if not self.root.parent.is_dir():
                    raise
                continue  # another run was done with it just now
            try:
                self._lock = FolderLock(descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise other_run(self.out) from None
            if _is_same(descriptor, self.root):
                return descriptor
            os.close(descriptor)  # locked a folder that another run had already removed
            self._lock.release()

    def _read_journal(self) -> dict[str, dict[str, str]]:
        try:
            lines = self._journal_path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return {}
        journal = {}
        for line in lines:
            # A torn last line, or what no run has written.
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                entry = json.loads(line)
                journal[entry["name"]] = {"source": entry["source"], "staged": entry["staged"]}
        return journal


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
