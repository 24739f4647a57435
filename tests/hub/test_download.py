"""Files are downloaded once, across cut connections, and what arrives damaged is found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

from conv2linear.checkpoint.header import read_header
from conv2linear.hub.download import Download
from conv2linear.hub.remote import RemoteFile
from tests.hub.published import HubCli, Published, assert_each_byte_once, bodies, contents
from tests.support.hub.exchanges import Fault

NO_WAIT = (("retry-after", "0"),)


def test_every_byte_is_downloaded_once(cli: HubCli, published: Published, out: Path) -> None:
    with published.hub.recording() as log:
        assert cli("convert", "org/tiny", out, "--device", "cpu").code == 0
    for path in published.sharded.rglob("*"):
        if path.is_file():
            assert_each_byte_once(bodies(log, path.name), 0, path.stat().st_size)
    assert all(e.authorization is None for e in log)


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_busy_for_a_moment_is_asked_again(
    cli: HubCli, published: Published, out: Path, status: int
) -> None:
    busy = Fault("*/resolve/*.safetensors", method="GET", status=status, headers=NO_WAIT, times=2)
    with published.hub.misbehaving(busy):
        done = cli("convert", "org/single", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    steps = {line.split()[0] for line in done.stderr.splitlines()}
    counted, if_slow = {"check", "download", "write"}, {"open", "load", "flush", "read", "publish"}
    assert steps <= counted | if_slow  # nothing is said of its retries


def test_a_connection_that_is_cut_goes_on_where_it_ended(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    """Each request of a shard ends after 700,000 bytes."""
    cut = Fault("/cdn/*", method="GET", cut_after_bytes=700_000)
    with published.hub.recording() as log, published.hub.misbehaving(cut):
        done = cli("convert", "org/single", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    own = ("conv2linear.json", "README.md")
    assert contents(out, without=own) == contents(expected(published.single), without=own)
    parts = bodies(log, "model.safetensors")
    assert_each_byte_once(parts, 0, (published.single / "model.safetensors").stat().st_size)
    assert max(stop - start for start, stop in parts) == 700_000


def test_a_download_that_failed_goes_on_in_the_next_run(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    path = published.single / "model.safetensors"
    earlier_reads = Fault("/cdn/*", method="GET", times=4)  # of headers and patch embeddings
    cut = Fault("/cdn/*", method="GET", cut_after_bytes=1_000_000, times=1)
    broken = Fault("/cdn/*", method="GET", status=400)
    with published.hub.recording() as log:
        with published.hub.misbehaving(earlier_reads, cut, broken):
            failed = cli("convert", "org/single", out, "--device", "cpu")
        failed.assert_refused("400")
        assert not out.exists()
        assert cli("convert", "org/single", out, "--device", "cpu").code == 0
    data_start = read_header(path).data_start
    # Only what a run reads to open and check the shard is read by both.
    parts = sorted({part for part in bodies(log, path.name) if part[0] >= data_start})
    assert_each_byte_once(parts, data_start, path.stat().st_size)
    assert (data_start, data_start + 1_000_000) in parts  # what the first run got
    own = ("conv2linear.json", "README.md")
    assert contents(out, without=own) == contents(expected(published.single), without=own)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_server_that_ignores_ranges_does_no_harm(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    faults = [
        Fault("/cdn/*", method="GET", cut_after_bytes=1_500_000, ignore_range=True, times=4),
        Fault("/cdn/*", method="GET", ignore_range=True),
    ]
    with published.hub.misbehaving(*faults):
        assert cli("convert", "org/single", out, "--device", "cpu").code == 0
    own = ("conv2linear.json", "README.md")
    assert contents(out, without=own) == contents(expected(published.single), without=own)


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json"])
def test_bytes_that_were_damaged_on_their_way_are_found(
    cli: HubCli, published: Published, out: Path, name: str
) -> None:
    size = (published.single / name).stat().st_size
    damage = Fault(f"*/{name}", method="GET", flip_byte=size - 1)
    with published.hub.misbehaving(damage):
        done = cli("convert", "org/single", out, "--device", "cpu")
    done.assert_refused(name, "hash")
    assert not out.exists()
    assert cli("convert", "org/single", out, "--device", "cpu").code == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_hub_that_answers_with_something_else_ends(
    cli: HubCli, published: Published, out: Path, after: int
) -> None:
    """A login page of a network answers every request with 200 and a few bytes."""
    faults = [
        Fault("/cdn/*", method="GET", times=after),
        Fault("/cdn/*", method="GET", status=200),
    ]
    with published.hub.misbehaving(*faults):
        done = cli("convert", "org/single", out, timeout=40)
    assert done.code == 2
    assert not out.exists()


def test_the_disk_begins_before_a_download_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is told of each piece once it is in the file."""
    pieces, told = [bytes([number]) * 1000 for number in range(5)], list[tuple[int, int]]()

    class Recorded:
        def __init__(self, file: FileIO) -> None:
            self._file = file

        def advance(self, count_bytes: int) -> None:
            told.append((self._file.tell(), count_bytes))

    monkeypatch.setattr("conv2linear.hub.download.EarlyWriteback", Recorded)
    monkeypatch.setattr(Download, "_stream", lambda self, start, end: iter(pieces))
    content = b"".join(pieces)
    sha256 = hashlib.sha256(content).hexdigest()
    file = RemoteFile("model.safetensors", len(content), sha256, can_copy=True)
    download = Download(file, "http://127.0.0.1:9")
    download.complete(tmp_path / "partial", on_bytes=lambda count: None)
    assert (tmp_path / "partial").read_bytes() == content
    assert told == [(1000 * number, 1000) for number in range(1, 6)]
