"""A branch that holds one converted model is not made to hold another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conv2linear import HubError, convert, plan_push, push
from tests.operations.push.pushes import RESHAPED, writes
from tests.support.contents import read_files
from tests.support.hub.upload_server import HubUploadServer


@pytest.fixture
def other_source(source: Path, tmp_path: Path) -> Path:
    """Return a checkpoint of the same architecture with another patch embedding."""
    folder = Path(shutil.copytree(source, tmp_path / "other"))
    content = bytearray((folder / RESHAPED).read_bytes())
    content[-2] ^= 1
    (folder / RESHAPED).write_bytes(content)
    return folder


def test_a_model_of_another_repository_is_refused(
    hub: HubUploadServer, full: Path, other_source: Path, repo_id: str, tmp_path: Path
) -> None:
    push(full, repo_id)
    before = hub.contents(repo_id)
    hub.publish(f"{repo_id}-other", other_source)
    convert(f"{repo_id}-other", tmp_path / "out", device="cpu")
    with hub.recording() as log:
        for function in (plan_push, push):
            with pytest.raises(HubError, match="another model, made from org/source"):
                function(tmp_path / "out", repo_id)
    assert writes(log) == []
    assert hub.contents(repo_id) == before
    assert push(tmp_path / "out", repo_id, create_pr=True).is_pull_request
    assert hub.contents(repo_id) == before


def test_a_model_of_another_folder_is_refused(
    hub: HubUploadServer, source: Path, other_source: Path, repo_id: str, tmp_path: Path
) -> None:
    convert(source, tmp_path / "one", device="cpu")
    convert(other_source, tmp_path / "two", device="cpu")
    push(tmp_path / "one", repo_id)
    with pytest.raises(HubError, match="another model"):
        push(tmp_path / "two", repo_id)
    assert hub.contents(repo_id) == read_files(tmp_path / "one")


def test_a_record_that_cannot_be_read_is_not_taken_for_our_own(
    hub: HubUploadServer, full: Path, repo_id: str, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(full, tmp_path / "broken"))
    (broken / "conv2linear.json").write_text("{}")
    (broken / "config.json").write_text('{"model_type": "glm4v"}')
    hub.publish(repo_id, broken)
    with hub.recording() as log, pytest.raises(HubError, match="another checkpoint"):
        push(full, repo_id)
    assert writes(log) == []


def test_a_newer_commit_of_the_same_source_is_an_update(
    hub: HubUploadServer,
    own_source: tuple[str, str],
    other_source: Path,
    repo_id: str,
    tmp_path: Path,
) -> None:
    name, _ = own_source
    convert(name, tmp_path / "one", device="cpu")
    push(tmp_path / "one", repo_id)
    hub.publish(name, other_source)
    convert(name, tmp_path / "two", device="cpu")
    push(tmp_path / "two", repo_id)
    assert hub.contents(repo_id) == read_files(tmp_path / "two")
    assert read_files(tmp_path / "one")[RESHAPED] != read_files(tmp_path / "two")[RESHAPED]
