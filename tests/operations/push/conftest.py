"""A Hub that takes uploads, and converted checkpoints to push to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from conv2linear.operations.convert import convert
from tests.operations.push.pushes import SOURCE
from tests.support.hub.store import OWNER_TOKEN
from tests.support.hub.upload_server import HubUploadServer
from tests.support.models import TinyModel


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUploadServer]:
    folder = tmp_path_factory.mktemp("hub")
    with HubUploadServer(folder) as server, pytest.MonkeyPatch.context() as patch:
        server.be_the_hub(patch, token=OWNER_TOKEN, xet=False)
        yield server


@pytest.fixture(scope="package")
def source(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    shutil.copytree(tiny_model(), folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    (folder / "assets").mkdir()
    (folder / "assets" / "naïve name.txt").write_text("text\n")
    return folder


@pytest.fixture(scope="package")
def commit_id(hub: HubUploadServer, source: Path) -> str:
    return hub.publish(SOURCE, source)


@pytest.fixture(scope="package")
def full(commit_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("full") / "out"
    convert(SOURCE, out, revision=commit_id)
    return out


@pytest.fixture(scope="package")
def overlay(commit_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("overlay") / "out"
    convert(SOURCE, out, revision=commit_id, changed_only=True)
    return out


@pytest.fixture(scope="package")
def api(hub: HubUploadServer) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=OWNER_TOKEN)


@pytest.fixture
def repo_id(request: pytest.FixtureRequest) -> str:
    """Return a name that no other test uses."""
    return f"org/{abs(hash(request.node.nodeid))}"


@pytest.fixture
def own_source(
    hub: HubUploadServer, source: Path, request: pytest.FixtureRequest
) -> tuple[str, str]:
    """Return a repository of the source, and its commit, that a test may change."""
    name = f"org/source-{abs(hash(request.node.nodeid))}"
    return name, hub.publish(name, source)
