"""A Hub that tests only read from, and the command line against it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conv2linear import convert
from tests.hub.published import HubCli, Published
from tests.support.hub.read_server import HubServer
from tests.support.models import TinyModel
from tests.support.processes import RunCli


@pytest.fixture(scope="package")
def published(
    tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    root = tmp_path_factory.mktemp("hub")
    sharded = Path(shutil.copytree(tiny_model(), root / "sharded"))
    (sharded / "README.md").write_text("---\nlicense: mit\n---\n# 模型\n")
    (sharded / "assets").mkdir()
    (sharded / "assets" / "naïve name.txt").write_text("text\n")
    single = tiny_model("glm_ocr", max_shard_size="1GB")
    with HubServer(root / "server") as hub:
        (sharded / "old.txt").write_text("of the first commit\n")
        first = hub.publish("org/tiny", sharded)
        (sharded / "old.txt").unlink()
        main = hub.publish("org/tiny", sharded)
        hub.publish("org/tiny", tiny_model("glm_ocr"), branch="ocr")
        hub.publish("org/single", single)
        yield Published(hub, sharded, single, first, main)


@pytest.fixture
def cli(
    run_cli: RunCli, published: Published, tmp_path: Path, cli_environment: dict[str, str]
) -> HubCli:
    base = {n: v for n, v in cli_environment.items() if not n.startswith("HF_")}
    return HubCli(run_cli, published, tmp_path / "home", base)


@pytest.fixture(scope="package")
def expected(
    published: Published, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Path]:
    """Return a function that converts the folder that a repository was made from."""
    root = tmp_path_factory.mktemp("expected")

    def get(source: Path) -> Path:
        folder = root / source.name
        if not folder.exists():
            convert(source, folder, device="cpu")
        return folder

    return get
