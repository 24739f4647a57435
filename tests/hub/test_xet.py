"""Whole files come over Xet where the Hub has it, and over HTTP where that gives nothing."""

from __future__ import annotations

import hashlib
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from conv2linear.errors import HubError
from conv2linear.hub.download import Download
from conv2linear.hub.remote import RemoteFile
from conv2linear.hub.repository import HubRepository
from conv2linear.hub.xet_reader import XetReader
from conv2linear.sources.base import partial_download_name
from tests.support.hub.exchanges import Fault
from tests.support.hub.store import OWNER_TOKEN
from tests.support.hub.xet_server import XetHub

CONTENT = random.Random(1).randbytes(1_000_000)
OTHER = random.Random(2).randbytes(1_000_000)
FILE = "model.safetensors"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XetHub]:
    root = tmp_path_factory.mktemp("xet")
    for name in ("hub", "files"):
        (root / name).mkdir()
    (root / "files" / FILE).write_bytes(CONTENT)
    (root / "files" / "other.safetensors").write_bytes(OTHER)
    (root / "files" / "config.json").write_text("{}\n")
    with XetHub(root / "hub") as server, pytest.MonkeyPatch.context() as patch:
        server.be_the_hub(patch, token=OWNER_TOKEN, xet=True)
        patch.setattr(constants, "HF_HUB_CACHE", str(root / "cache"))
        server.publish("org/files", root / "files")
        yield server


@pytest.fixture
def repository(hub: XetHub) -> HubRepository:
    return HubRepository("org/files", "main")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def listed_as(xet_hash: str) -> RemoteFile:
    """Return the file as a Hub lists it that gives it this name in Xet storage."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return RemoteFile(FILE, len(CONTENT), sha256, can_copy=True, xet_hash=xet_hash)


def reader_of(repository: HubRepository) -> XetReader:
    return XetReader("org/files", repository.origin.commit_sha)


class Fetch:
    """A download of one file, and what was counted of it."""

    def __init__(self, folder: Path) -> None:
        self.target, self.scratch = folder / "target", folder
        self.counted = 0

    def __call__(self, repository: HubRepository, name: str = FILE) -> bytes:
        repository.fetch(name, self.target, scratch=self.scratch, on_bytes=self._count)
        return self.target.read_bytes()

    def partial(self, repository: HubRepository) -> Path:
        return self.scratch / partial_download_name(repository.files[FILE])

    def _count(self, count: int) -> None:
        self.counted += count


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path)


def test_a_large_file_comes_over_xet_alone(
    hub: XetHub, repository: HubRepository, fetch: Fetch
) -> None:
    with hub.recording() as log:
        assert fetch(repository) == CONTENT
    assert fetch.counted == len(CONTENT)
    assert log.of("*/resolve/*") == []
    assert repository.warnings == ()
    assert list(fetch.scratch.iterdir()) == [fetch.target]


def test_access_is_asked_for_once(hub: XetHub, repository: HubRepository, tmp_path: Path) -> None:
    with hub.recording() as log:
        for name in (FILE, "other.safetensors"):
            repository.fetch(name, tmp_path / name, scratch=tmp_path, on_bytes=lambda _: None)
    (asked,) = log.of("*/xet-read-token/*")
    assert asked.authorization == f"Bearer {OWNER_TOKEN}"


def test_a_small_file_comes_over_http(hub: XetHub, repository: HubRepository, fetch: Fetch) -> None:
    with hub.recording() as log:
        assert fetch(repository, "config.json") == b"{}\n"
    assert log.of("*/xet-read-token/*") == []


def test_a_part_is_read_over_http(hub: XetHub, repository: HubRepository) -> None:
    with hub.recording() as log:
        assert repository.read(FILE, 1000, 500) == CONTENT[1000:1500]
    assert log.spans("/cdn/*") == [(1000, 1500)]


def test_what_was_read_before_is_not_asked_for_again(
    repository: HubRepository, fetch: Fetch
) -> None:
    repository.read(FILE, 400_000, 1000)
    assert fetch(repository) == CONTENT
    assert fetch.counted == len(CONTENT)


def test_xet_that_is_disabled_is_not_used(
    hub: XetHub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with hub.recording() as log:
        assert fetch(HubRepository("org/files", "main")) == CONTENT
    assert log.sent_bytes("/cdn/*") == len(CONTENT)
    assert log.of("*/xet-read-token/*") == []


def test_without_its_client_files_come_over_http(
    hub: XetHub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hf_xet", None)
    repository = HubRepository("org/files", "main")
    with hub.recording() as log:
        assert fetch(repository) == CONTENT
    assert log.sent_bytes("/cdn/*") == len(CONTENT)
    assert repository.warnings == ()


def test_a_download_goes_on_where_it_ended(
    hub: XetHub, repository: HubRepository, fetch: Fetch
) -> None:
    fetch.partial(repository).write_bytes(CONTENT[:700_000])
    with hub.recording() as log:
        assert fetch(repository) == CONTENT
    assert fetch.counted == len(CONTENT)
    assert log.of("*/resolve/*") == []


def test_a_beginning_that_was_damaged_is_found(repository: HubRepository, fetch: Fetch) -> None:
    partial = fetch.partial(repository)
    partial.write_bytes(OTHER[:700_000])
    with pytest.raises(HubError, match="downloaded content has hash"):
        fetch(repository)
    assert not partial.exists()
    assert fetch(repository) == CONTENT


def test_storage_that_cannot_be_reached_is_named_and_http_used(
    hub: XetHub, repository: HubRepository, fetch: Fetch
) -> None:
    with hub.xet_at("http://127.0.0.1:9"), hub.recording() as log:
        assert fetch(repository) == CONTENT
        fetch(repository, "other.safetensors")
    assert log.sent_bytes("/cdn/*") == len(CONTENT) + len(OTHER)
    (warning,) = repository.warnings
    assert "over HTTP" in warning
    assert "http://127.0.0.1:9" in warning


@pytest.mark.parametrize(
    "fault", [{"status": 404}, {"body": b"[]"}, {"body": b'{"casUrl": 1}'}, {"body": b"<html>"}]
)
def test_access_that_is_not_given_is_named_and_http_used(
    hub: XetHub, repository: HubRepository, fetch: Fetch, fault: dict[str, bytes | int]
) -> None:
    with hub.misbehaving(Fault("*/xet-read-token/*", **fault)):  # type: ignore[arg-type]
        assert fetch(repository) == CONTENT
    (warning,) = repository.warnings
    assert "over HTTP" in warning


def test_a_file_that_is_not_in_storage_comes_over_http(repository: HubRepository) -> None:
    assert_completed(repository, "0" * 64)


def test_the_rest_of_a_file_that_ends_early_comes_over_http(
    hub: XetHub, repository: HubRepository, tmp_path: Path
) -> None:
    (tmp_path / "short").write_bytes(CONTENT[:600_000])
    assert_completed(repository, hub.content.add(tmp_path / "short").xet_hash)


def assert_completed(repository: HubRepository, xet_hash: str) -> None:
    """Check that the file is right although Xet storage has something else by that name."""
    content = bytearray()
    file, reader = listed_as(xet_hash), reader_of(repository)
    got = reader.copy(file, 0, len(CONTENT), content.extend, on_wait=lambda: None)
    assert reader.problem
    assert got == len(content)
    assert bytes(content) == CONTENT[:got]


def test_other_content_is_found_by_its_hash(
    hub: XetHub, repository: HubRepository, tmp_path: Path
) -> None:
    stored = hub.content.find(hashlib.sha256(OTHER).hexdigest())
    assert stored is not None
    listed = hashlib.sha256(CONTENT).hexdigest()
    file = RemoteFile(FILE, len(CONTENT), listed, can_copy=True, xet_hash=stored.xet_hash)
    reader = XetReader("org/files", repository.origin.commit_sha)
    with pytest.raises(HubError, match="downloaded content has hash"):
        Download(file, "", reader).complete(tmp_path / "partial", on_bytes=lambda _: None)
    assert not (tmp_path / "partial").exists()


class StoppedError(Exception):
    """What the caller of a download raises to end it."""


def test_a_download_that_waits_ends_at_once(
    hub: XetHub, repository: HubRepository, tmp_path: Path, silent_port: int
) -> None:
    began = time.monotonic()

    def stop(count: int) -> None:
        if time.monotonic() - began > 0.5:
            raise StoppedError

    with hub.xet_at(f"http://127.0.0.1:{silent_port}"), pytest.raises(StoppedError):
        repository.fetch(FILE, tmp_path / "target", scratch=tmp_path, on_bytes=stop)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "target").exists()
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def test_a_disk_that_is_full_is_no_problem_of_xet(hub: XetHub, repository: HubRepository) -> None:
    def write(chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    stored = hub.content.find(hashlib.sha256(CONTENT).hexdigest())
    assert stored is not None
    file, reader = listed_as(stored.xet_hash), reader_of(repository)
    with pytest.raises(OSError, match="No space left"):
        reader.copy(file, 0, file.size_bytes, write, on_wait=lambda: None)
    assert reader.problem is None
