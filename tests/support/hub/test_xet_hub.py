"""The real client reads and writes the Hub that has Xet storage, over Xet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from tests.support.hub.first_commit import CONTENT, SHARD, create
from tests.support.hub.store import OWNER_TOKEN
from tests.support.hub.xet_server import XetHub
from tests.support.installed import need_release


@pytest.fixture
def xet_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[XetHub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hub").mkdir()
    with XetHub(tmp_path / "hub") as server:
        yield server


def test_what_the_client_uploads_it_downloads_again(xet_hub: XetHub, tmp_path: Path) -> None:
    need_release("huggingface_hub", "1.20", "before, it sends these files over HTTP")
    api = HfApi(endpoint=xet_hub.endpoint, token=OWNER_TOKEN)
    with xet_hub.recording() as log:
        create(api)
        folder = Path(api.snapshot_download("org/new", local_dir=tmp_path / "local"))
    assert (folder / SHARD).read_bytes() == CONTENT
    assert log.received_bytes("/lfs/*") == 0
    assert log.sent_bytes("/cdn/*") == 0
    assert len(log.of("*/xet-read-token/*")) == 1
    stored = xet_hub.content.find(hashlib.sha256(CONTENT).hexdigest())
    assert stored is not None
    assert stored.size_bytes == len(CONTENT)


def test_what_came_over_xet_is_served_over_http(
    xet_hub: XetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = HfApi(endpoint=xet_hub.endpoint, token=OWNER_TOKEN)
    create(api)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with xet_hub.recording() as log:
        folder = Path(api.snapshot_download("org/new", local_dir=tmp_path / "local"))
    assert (folder / SHARD).read_bytes() == CONTENT
    assert log.sent_bytes("/cdn/*") == len(CONTENT)


def test_what_is_stored_once_is_not_stored_again(xet_hub: XetHub) -> None:
    api = HfApi(endpoint=xet_hub.endpoint, token=OWNER_TOKEN)
    create(api, "org/one")
    before = xet_hub.content.size_bytes()
    xet_hub.content.forget_clients()
    create(api, "org/two")
    assert xet_hub.content.size_bytes() == before
