"""A copy is the same file, and an error says on which of the two sides it arose."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conv2linear import convert
from conv2linear.errors import BadCheckpointError, OutputError, SourceUnreadableError
from conv2linear.files.clone import clone_file, open_regular
from tests.support.processes import RunCli

CANNOT_BE_READ = Path("/proc/self/mem")  # a regular file whose first page gives EIO
LIMIT_BYTES = 1 << 20


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    """Return a function after which no file of this process can grow beyond a size."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_copy_has_the_content_and_tells_its_bytes(tmp_path: Path) -> None:
    content = os.urandom((16 << 20) + 5)
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "source").chmod(0o750)
    told: list[int] = []
    clone_file(tmp_path / "source", tmp_path / "target", on_bytes=told.append)
    assert (tmp_path / "target").read_bytes() == content
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o750
    assert sum(told) == len(content)


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadableError, match=r"^/proc/self/mem: cannot be read: Input/out"):
        clone_file(CANNOT_BE_READ, tmp_path / "target", on_bytes=lambda count: None)


def test_a_target_that_cannot_be_written_is_an_error_of_the_system(
    tmp_path: Path, limit_file_size: Callable[[int], None]
) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(LIMIT_BYTES)
    limit_file_size(LIMIT_BYTES // 2)
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        clone_file(source, tmp_path / "target", on_bytes=lambda count: None)


def test_a_source_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadableError, match="missing: cannot be read: No such file"):
        open_regular(tmp_path / "missing")


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadCheckpointError, match="pipe: not a regular file"):
        open_regular(tmp_path / "pipe")


def test_a_conversion_says_that_the_source_cannot_be_read(
    checkpoint: Path, out: Path, run_cli: RunCli
) -> None:
    (checkpoint / "extra.bin").symlink_to(CANNOT_BE_READ)
    done = run_cli("convert", checkpoint, out, "--device", "cpu")
    done.assert_refused("extra.bin: cannot be read: Input/output error")
    assert str(out) not in done.stderr
    assert not out.exists()


def test_a_conversion_says_that_the_output_cannot_be_written(
    checkpoint: Path, out: Path, limit_file_size: Callable[[int], None]
) -> None:
    with (checkpoint / "large.bin").open("wb") as file:
        file.truncate(LIMIT_BYTES)
    limit_file_size(LIMIT_BYTES // 2)
    with pytest.raises(OutputError, match=f"^{re.escape(str(out))}: {os.strerror(errno.EFBIG)}"):
        convert(checkpoint, out, device="cpu", workers=1)
