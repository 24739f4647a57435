"""Git repositories with LFS objects, made without a working tree."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path


def find_commit(repository: Path, revision: str) -> str | None:
    """Return the commit that a revision names, or None if there is none."""
    arguments = ["rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}"]
    command = ["git", "-C", str(repository), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def commit_folder(repository: Path, folder: Path, *, branch: str, lfs: tuple[str, ...]) -> str:
    """Commit the files of a folder to a branch, replacing its tree, and return the commit sha.

    The repository is made if there is none. Files whose name matches a glob of `lfs` are stored as
    LFS objects.
    """
    if not repository.exists():
        _git(repository, "init", "--quiet", f"--initial-branch={branch}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stream = [_commit_header(branch, find_commit(repository, f"refs/heads/{branch}"))]
    for path in files:
        is_large = any(fnmatchcase(path.name, pattern) for pattern in lfs)
        content = _store_large(repository, path) if is_large else path.read_bytes()
        name = json.dumps(path.relative_to(folder).as_posix(), ensure_ascii=False)
        stream.append(f"M 100644 inline {name}\ndata {len(content)}\n".encode())
        stream += [content, b"\n"]
    _git(repository, "fast-import", "--quiet", stdin=b"".join(stream))
    commit = find_commit(repository, f"refs/heads/{branch}")
    assert commit is not None
    return commit


def find_large(repository: Path, sha256: str) -> Path | None:
    """Return where an LFS object lies, None where there is none by that name."""
    path = _large_path(repository, sha256)
    return path if path.is_file() else None


def lfs_pointer(sha256: str, size: int) -> bytes:
    """Return what git keeps in the place of an LFS object (git-lfs spec v1)."""
    lines = ["version https://git-lfs.github.com/spec/v1", f"oid sha256:{sha256}"]
    return "\n".join([*lines, f"size {size}\n"]).encode()


def _commit_header(branch: str, parent: str | None) -> bytes:
    lines = [
        f"commit refs/heads/{branch}",
        "committer Test <test@example.org> 1700000000 +0000",
        "data 7",
        "Publish",
        *([f"from {parent}"] if parent else []),
        "deleteall\n",
    ]
    return "\n".join(lines).encode()


def _store_large(repository: Path, path: Path) -> bytes:
    """Put a file among a repository's LFS objects and return its pointer."""
    digest = _sha256(path)
    stored = _large_path(repository, digest)
    stored.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, stored)
    return lfs_pointer(digest, path.stat().st_size)


def _large_path(repository: Path, sha256: str) -> Path:
    return repository / ".git" / "lfs" / "objects" / sha256[:2] / sha256[2:4] / sha256


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 16):
            digest.update(chunk)
    return digest.hexdigest()


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "-C", str(folder), *arguments], input=stdin, check=True)
