"""Files are sent over Xet, and of a shard that the Hub nearly has only what is new."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from conv2linear.errors import HubError, SourceNotFoundError
from conv2linear.hub.commit import CommitMessage, LocalFile
from conv2linear.hub.target import HubTarget
from conv2linear.sources.base import Origin
from tests.support.hub.exchanges import Fault
from tests.support.hub.store import OWNER_TOKEN, READER_TOKEN
from tests.support.hub.xet_server import XetHub

SHARD = "model.safetensors"
DATA = random.Random(3).randbytes(8_000_000)
SOURCE_CONTENT = b"[1536,3,2,14,14]" + DATA
RESHAPED_CONTENT = b"[1536,1176]     " + DATA
FEW_BYTES = 400_000  # three chunks of the greatest size


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XetHub]:
    folder = tmp_path_factory.mktemp("hub")
    with XetHub(folder) as server, pytest.MonkeyPatch.context() as patch:
        server.be_the_hub(patch, token=OWNER_TOKEN, xet=True)
        yield server


@pytest.fixture
def source(hub: XetHub, tmp_path: Path) -> Origin:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / SHARD).write_bytes(SOURCE_CONTENT)
    return Origin("org/source", hub.publish("org/source", tmp_path / "source"))


@pytest.fixture
def target(hub: XetHub, request: pytest.FixtureRequest) -> HubTarget:
    target = HubTarget(f"org/{abs(hash(request.node.nodeid))}", "main")
    target.create_repository(private=False)
    return target


def local(tmp_path: Path, content: bytes, name: str = SHARD) -> LocalFile:
    (tmp_path / "sent").mkdir(exist_ok=True)
    (tmp_path / "sent" / name).write_bytes(content)
    return LocalFile(name, tmp_path / "sent" / name)


def send(target: HubTarget, *files: LocalFile, source: Origin | None = None) -> int:
    """Upload and commit files, and return how many bytes were new to the Hub."""
    counted: list[int] = []
    new_bytes = target.upload(files, source=source, proposing=False, on_bytes=counted.append)
    assert sum(counted) == sum(file.size_bytes for file in files)
    target.commit(files, parent=target.head(), message=CommitMessage("Add files", ""))
    return new_bytes


def test_what_is_sent_over_xet_is_served_again(
    hub: XetHub, target: HubTarget, tmp_path: Path
) -> None:
    content = random.Random(4).randbytes(2_000_000)
    files = [local(tmp_path, content), local(tmp_path, b"{}\n", "config.json")]
    with hub.recording() as log:
        new_bytes = send(target, *files)
    assert log.received_bytes("/lfs/*") == 0
    assert len(log.of("*/xet-write-token/*")) == 1
    assert new_bytes == len(content) + 3
    contents = hub.contents(target.repo_id)
    assert (contents[SHARD], contents["config.json"]) == (content, b"{}\n")


def test_of_a_reshaped_shard_only_the_first_chunks_are_sent(
    hub: XetHub, target: HubTarget, source: Origin, tmp_path: Path
) -> None:
    hub.content.forget_clients()  # as on a machine that has uploaded nothing before
    before = hub.content.size_bytes()
    file = local(tmp_path, RESHAPED_CONTENT)
    with hub.recording() as log:
        new_bytes = send(target, file, source=source)
    assert new_bytes < FEW_BYTES
    assert hub.content.size_bytes() - before < FEW_BYTES
    assert log.sent_bytes("/cdn/*") == 1 << 17
    assert hub.contents(target.repo_id)[SHARD] == RESHAPED_CONTENT


def test_without_the_beginning_of_the_source_most_would_be_sent_again(
    hub: XetHub, target: HubTarget, source: Origin, tmp_path: Path
) -> None:
    content = b"another beginning" + DATA
    hub.content.forget_clients()
    assert send(target, local(tmp_path, content)) > len(DATA) // 2


def test_a_source_that_cannot_be_read_stops_nothing(
    hub: XetHub, target: HubTarget, tmp_path: Path
) -> None:
    content = random.Random(5).randbytes(300_000)
    source = Origin("org/gone", "0" * 40)
    assert send(target, local(tmp_path, content), source=source) == len(content)


def test_a_token_that_may_only_read_is_refused(
    hub: XetHub, target: HubTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = local(tmp_path, random.Random(6).randbytes(1000))
    monkeypatch.setenv("HF_TOKEN", READER_TOKEN)
    with pytest.raises(HubError, match="may not write"):
        send(target, file)
    proposal = target.upload([file], source=None, proposing=True, on_bytes=lambda _: None)
    assert proposal == file.size_bytes  # whoever reads may propose


def test_storage_that_cannot_be_reached_is_named(
    hub: XetHub, target: HubTarget, tmp_path: Path
) -> None:
    file = local(tmp_path, random.Random(7).randbytes(1000))
    nowhere = str(tmp_path / "sent" / SHARD)  # a file is no folder for a store
    with hub.xet_at(f"local://{nowhere}"), pytest.raises(HubError) as refused:
        send(target, file)
    assert f"{SHARD} cannot be sent over Xet" in str(refused.value)
    assert "HF_HUB_DISABLE_XET=1" in (refused.value.hint or "")


def test_with_xet_disabled_files_go_over_http(
    hub: XetHub, target: HubTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    content = random.Random(8).randbytes(300_000)
    with hub.recording() as log:
        assert send(target, local(tmp_path, content)) == len(content)
    assert log.received_bytes("/lfs/*") >= len(content)
    assert log.of("*/xet-write-token/*") == []
    digest = hashlib.sha256(hub.contents(target.repo_id)[SHARD]).digest()
    assert digest == hashlib.sha256(content).digest()


def test_access_that_is_not_understood_is_named(
    hub: XetHub, target: HubTarget, tmp_path: Path
) -> None:
    file = local(tmp_path, b"x" * 1000)
    odd = Fault("*/xet-write-token/*", body=b"{}")
    with hub.misbehaving(odd), pytest.raises(HubError, match="no access to Xet storage"):
        send(target, file)


def test_a_repository_that_is_gone_is_named(hub: XetHub, tmp_path: Path) -> None:
    target = HubTarget("org/absent", "main")
    with pytest.raises(SourceNotFoundError, match="org/absent"):
        send(target, local(tmp_path, b"x" * 1000))
