"""What a source of files is: its origin, its files, and what identifies their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from conv2linear.errors import (
    BadCheckpointError,
    SourceChangedError,
    UnsupportedCheckpointError,
)
from conv2linear.files.disk_errors import read_errors
from conv2linear.files.status import read_status
from conv2linear.text import format_bytes

GIT_FOLDER = ".git"  # in a worktree or a submodule a file; git has no such name in a repository
CACHE_FOLDER = ".cache"  # of huggingface_hub, in the folder that it downloads to
LFS_POINTER = b"version https://git-lfs"  # how such a file begins, whatever its version
_MAX_TEXT_BYTES = 100_000_000
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Origin:
    """A Hub repository at a resolved commit.

    `hub` is the address of its Hub without any credentials, None for huggingface.co.
    """

    repo_id: str
    commit_sha: str
    hub: str | None = None


@dataclass(frozen=True)
class FileInfo:
    """One file of a checkpoint; `name` is its posix path below the checkpoint's root.

    `path` is where its bytes should lie on this machine, or None for a file that only the Hub has:
    what is in a cache is not proven yet, see `Repository.local_path`.
    `fingerprint` changes when the file does; it is not a hash of the content. `content_id` is the
    hash by which the Hub lists the content, whatever lies at `path`.
    """

    name: str
    size_bytes: int
    fingerprint: str
    sha256: str | None = None
    path: Path | None = None
    content_id: str | None = None


class Repository(Protocol):
    """Where the files of a checkpoint are: a folder, or a repository on the Hub."""

    @property
    def label(self) -> str:
        """The name that messages use, as the user gave it."""

    @property
    def origin(self) -> Origin | None:
        """Repository and commit, where it comes from the Hub."""

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """All files by name."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the user should know about where the files come from, as far as is known yet."""

    @property
    def omitted(self) -> Sequence[str]:
        """Names of what lies there and is not part of the checkpoint; folders end with a slash."""

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`, fewer only at its end."""

    def local_path(self, name: str, *, on_bytes: Callable[[int], None]) -> Path | None:
        """Return where a file lies on this machine with the right content, None if nowhere.

        `on_bytes` is told what is read to find that out.
        """

    def fetch(
        self, name: str, target: Path, *, scratch: Path, on_bytes: Callable[[int], None]
    ) -> None:
        """Write a copy of a file to the new file `target` and sync it.

        `scratch` is a folder on the same file system for downloads that are not complete yet.
        Raises `SourceUnreadableError` where reading fails, and `OSError` where writing does.
        """


def is_omitted(name: str) -> bool:
    """Tell whether a path belongs to git or to huggingface_hub, and not to the checkpoint.

    What is called `.GIT` is git's wherever upper case does not count, and git itself never has it.
    """
    parts = PurePosixPath(name).parts
    return any(map(is_git_folder, parts)) or parts[0] == CACHE_FOLDER


def is_git_folder(name: str) -> bool:
    """Tell whether some file system takes a name for that of git's own folder."""
    return name.casefold() == GIT_FOLDER


def partial_download_name(info: FileInfo) -> str:
    """Return the name of the file that a download which is not complete yet is kept in.

    It depends on name and content, so that two files, or two versions of one, never share it.
    """
    return hashlib.sha256(f"{info.name} {info.fingerprint}".encode()).hexdigest()


def file_fingerprint(path: Path) -> str:
    """Identify the content of a file by what the file system says of it, without reading it.

    The change time stands last: no program can set it back, but a new hard link moves it too.
    """
    return status_fingerprint(path.stat())


def status_fingerprint(s: os.stat_result) -> str:
    """Identify the content of a file by its status, as `file_fingerprint` does."""
    return f"{s.st_dev}:{s.st_ino}:{s.st_size}:{s.st_mtime_ns}:{s.st_ctime_ns}"


def check_unchanged(info: FileInfo) -> None:
    """Raise `SourceChangedError` if a file is not what it was when the checkpoint was opened."""
    if info.path is None:
        return
    with read_errors(info.path):
        status = read_status(info.path)
    now = status_fingerprint(status) if status else ""
    if now.rpartition(":")[0] != info.fingerprint.rpartition(":")[0]:
        raise SourceChangedError(
            f"{info.path} changed while it was read",
            hint="wait until whatever writes to the source is done, then run again",
        )


@contextlib.contextmanager
def named_in_errors(label: str) -> Iterator[None]:
    """Let errors about a file say which folder or repository it is in: that stands first."""
    try:
        yield
    except (BadCheckpointError, UnsupportedCheckpointError, SourceChangedError) as error:
        if label in str(error):
            raise
        raise type(error)(f"{label}: {error}", hint=error.hint) from error


def read_text(repository: Repository, name: str) -> str:
    """Read a small file as UTF-8.

    Raises `BadCheckpointError` if it is not small, not text, or only a pointer to the file.
    """
    info = repository.files[name]
    if info.size_bytes > _MAX_TEXT_BYTES:
        raise BadCheckpointError(
            f"{name}: {format_bytes(info.size_bytes)} is too large for a text file"
        )
    content = repository.read(name, 0, info.size_bytes)
    check_unchanged(info)
    refuse_pointer(content, name)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadCheckpointError(f"{name}: not UTF-8: {error}") from None


def refuse_pointer(content: bytes, name: str) -> None:
    """Raise `BadCheckpointError` where a file begins as what git stores in place of a large one."""
    if content.startswith(LFS_POINTER):
        raise BadCheckpointError(
            f"{name} is a pointer of Git LFS, and not the file that it stands for",
            hint="run `git lfs pull` in that folder, or name the repository on the Hub instead",
        )


def read_optional_text(repository: Repository, name: str) -> str | None:
    """Read a small file as UTF-8, None where there is none; raises as `read_text` does."""
    return read_text(repository, name) if name in repository.files else None


def is_inside(name: str) -> bool:
    """Tell whether a file name from outside stays below the folder that it is relative to."""
    path = PurePosixPath(name)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and ("\\" not in name and "\0" not in name and path.as_posix() == name)
    )


def find_name_problem(name: str) -> str | None:
    """Say why a file of this name cannot be recorded, or not shown for what it is; None if it can.

    Any other name is right: spaces of every width, emoji, letters of every script.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in _BIDI_CONTROLS for c in name):
        return "it has characters that a terminal obeys instead of showing them"
    return None if is_inside(name) else "it has a backslash, which separates folders elsewhere"
