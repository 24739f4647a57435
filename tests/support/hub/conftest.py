"""Fixtures of the tests of the upload server; those of the read server have their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from tests.support.hub.store import OWNER_TOKEN
from tests.support.hub.upload_server import HubUploadServer


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubUploadServer]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    (tmp_path / "hub").mkdir()
    with HubUploadServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def api(hub: HubUploadServer) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=OWNER_TOKEN)
