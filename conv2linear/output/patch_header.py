"""Give a written shard another header."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from io import FileIO
from pathlib import Path

from conv2linear.checkpoint.header import LENGTH_BYTES, Header, header_length
from conv2linear.errors import BadHeaderError
from conv2linear.files.clone import copy_rest, set_mode
from conv2linear.files.sync import sync_descriptor


def replace_header(path: Path, header: Header) -> None:
    """Give the file at `path` another header, and sync it.

    One of the same length is written over the old one in place. A longer one makes a new file, in
    which all that follows is moved. Raises `BadHeaderError` where the file has a second name: with
    a hard link the other file would change too.
    """
    with path.open("r+b", buffering=0) as file:
        status = os.fstat(file.fileno())
        length = header_length(file.read(LENGTH_BYTES), file_bytes=status.st_size, label=path.name)
        if status.st_nlink != 1:
            raise BadHeaderError(f"{path.name} has {status.st_nlink} names, expected one")
        if length == len(header.raw):
            os.pwrite(file.fileno(), header.raw, LENGTH_BYTES)
            sync_descriptor(file.fileno())
            return
        file.seek(LENGTH_BYTES + length)
        descriptor, longer = tempfile.mkstemp(dir=path.parent)  # a name that no file has
        with FileIO(descriptor, "w") as new:
            new.write(struct.pack("<Q", len(header.raw)) + header.raw)
            copy_rest(file, new, on_bytes=lambda count: None)
            set_mode(new, stat.S_IMODE(status.st_mode))
            sync_descriptor(new.fileno())
    Path(longer).replace(path)
