"""What a push does with hashes and signatures that the conversion has made wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conv2linear import convert, plan_push, push
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint
from tests.support.hub.upload_server import HubUploadServer

LIST = "SHA256SUMS"
MAKE_LIST = f"find . -type f ! -name {LIST} -exec sha256sum {{}} + > {LIST}"


@pytest.fixture
def signed(hub: HubUploadServer, repo_id: str, tmp_path: Path) -> str:
    """Return a repository of a checkpoint that has a list of its hashes."""
    folder = write_checkpoint(tmp_path / "model", shards=2, kernel=SMALL_KERNEL, filler_bytes=64)
    _make_list(folder)
    name = f"{repo_id}-signed"
    hub.publish(name, folder)
    return name


def _make_list(folder: Path) -> None:
    subprocess.run(["bash", "-ec", MAKE_LIST], cwd=folder, check=True)


@pytest.mark.parametrize("changed_only", [False, True])
def test_a_stale_list_is_not_published(
    hub: HubUploadServer, signed: str, repo_id: str, out: Path, changed_only: bool
) -> None:
    convert(signed, out, changed_only=changed_only, device="cpu")
    result = push(out, repo_id)
    assert LIST not in hub.contents(repo_id)
    assert hub.contents(repo_id).keys() >= hub.contents(signed).keys() - {LIST}
    assert result.warnings == ()


def test_one_that_is_made_anew_is(
    hub: HubUploadServer, signed: str, repo_id: str, out: Path
) -> None:
    convert(signed, out, device="cpu")
    _make_list(out)
    planned = plan_push(out, repo_id)
    push(out, repo_id)
    assert hub.contents(repo_id)[LIST] == (out / LIST).read_bytes()
    (operation,) = (each for each in planned.operations if each.name == LIST)
    assert operation.kind == "upload"


def test_one_that_stays_on_a_branch_of_the_source_is_named(
    hub: HubUploadServer, signed: str, out: Path
) -> None:
    convert(signed, out, changed_only=True, device="cpu")
    before = hub.contents(signed)[LIST]
    planned = plan_push(out, signed, revision="linear")
    result = push(out, signed, revision="linear")
    assert hub.contents(signed, "linear")[LIST] == before
    for warnings in (planned.warnings, result.warnings):
        assert any(f"{LIST} stays on {signed} at linear" in warning for warning in warnings)
