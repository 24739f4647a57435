"""The content of large files as Xet keeps it, in a folder that the client takes for its server.

`hf_xet` takes `local:///folder` for the address of Xet storage, and does there itself what the
server does: chunks are stored once, files are lists of chunks. Only one process at a time has such
a folder open. Which files it has is read here from the shards, which describe them
(https://huggingface.co/docs/xet/shard).
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hf_xet

_HEADER_BYTES = _ENTRY_BYTES = 48
_END = b"\xff" * 32
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30


@dataclass(frozen=True)
class StoredFile:
    """A file by its hash in Xet storage, its SHA-256 and its size."""

    xet_hash: str
    sha256: str
    size_bytes: int


class ContentStore:
    """Chunks and files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = f"local://{folder}"
        self._files: dict[str, StoredFile] = {}

    def add(self, path: Path) -> StoredFile:
        """Store a file."""
        with hf_xet.XetSession().new_upload_commit(endpoint=self.endpoint) as commit:
            upload = commit.start_upload_file(str(path))
        info = upload.result().xet_info
        stored = StoredFile(info.hash, info.sha256, info.file_size)
        self._files[stored.sha256] = stored
        return stored

    def find(self, sha256: str) -> StoredFile | None:
        """Return the file with this content."""
        if sha256 not in self._files:
            shards = self.folder.rglob("shards/*.mdb")
            found = [file for shard in shards for file in _read_shard(shard.read_bytes())]
            self._files |= {file.sha256: file for file in found}
        return self._files.get(sha256)

    def read(self, sha256: str, target: Path) -> None:
        """Write the file with this content to `target`."""
        file = self.find(sha256)
        assert file is not None
        session: Any = hf_xet.XetSession()
        with session.new_file_download_group(endpoint=self.endpoint) as group:
            info = hf_xet.XetFileInfo(file.xet_hash, file.size_bytes)
            group.start_download_file(info, str(target))

    def size_bytes(self) -> int:
        """Return how many bytes of chunks are stored, as compressed as they are."""
        return sum(path.stat().st_size for path in self.folder.rglob("xorbs/xorbs/*"))

    def forget_clients(self) -> None:
        """Remove what a client remembers of earlier uploads, as another machine would not know."""
        for name in ("shard-cache", "shard-session"):
            for path in self.folder.rglob(name):
                shutil.rmtree(path)


def _read_shard(content: bytes) -> Iterator[StoredFile]:
    """Yield the files that a shard describes."""
    position = _HEADER_BYTES
    while content[position : position + 32] != _END:
        xet_hash = _hash_text(content[position : position + 32])
        flags, count = struct.unpack_from("<II", content, position + 32)
        position += _ENTRY_BYTES
        size = sum(
            struct.unpack_from("<I", content, position + i * _ENTRY_BYTES + 36)[0]
            for i in range(count)
        )
        position += count * _ENTRY_BYTES * (2 if flags & _HAS_VERIFICATION else 1)
        if flags & _HAS_METADATA:
            yield StoredFile(xet_hash, _hash_text(content[position : position + 32]), size)
            position += _ENTRY_BYTES


def _hash_text(content: bytes) -> str:
    """Return a hash as text: four numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", content))
