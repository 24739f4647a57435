"""A rule that the Hub itself adds to .gitattributes is right; nothing else that is new is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from conv2linear import CheckFailedError, convert, push
from tests.operations.push.pushes import push_in_portions, writes
from tests.support.contents import read_files
from tests.support.hub.upload_server import HubUploadServer

NAME = "assets/image.png"
RULE = f"{NAME} filter=lfs diff=lfs merge=lfs -text\n".encode()
ATTRIBUTES = ".gitattributes"


@pytest.fixture
def with_image(source: Path, tmp_path: Path) -> Path:
    """Return a converted checkpoint with a binary file that no rule covers."""
    folder = Path(shutil.copytree(source, tmp_path / "with image"))
    (folder / NAME).write_bytes(b"\0" * 2000)
    convert(folder, tmp_path / "converted", device="cpu")
    return tmp_path / "converted"


@pytest.mark.parametrize("has_attributes", [True, False])
@pytest.mark.parametrize("in_portions", [True, False])
def test_a_file_that_no_rule_covers_is_pushed(
    hub: HubUploadServer,
    source: Path,
    repo_id: str,
    tmp_path: Path,
    has_attributes: bool,
    in_portions: bool,
) -> None:
    folder = Path(shutil.copytree(source, tmp_path / "folder"))
    (folder / NAME).write_bytes(b"\0" * 2000)
    if not has_attributes:
        (folder / ATTRIBUTES).unlink()
    out = tmp_path / "out"
    convert(folder, out, device="cpu")
    send = push_in_portions if in_portions else push
    send(out, repo_id)
    published, own = hub.contents(repo_id), read_files(out)
    assert published.pop(ATTRIBUTES).endswith(RULE)
    own.pop(ATTRIBUTES, None)
    assert published == own


def test_a_second_push_changes_nothing(
    hub: HubUploadServer, with_image: Path, repo_id: str
) -> None:
    first = push(with_image, repo_id)
    with hub.recording() as log:
        assert push(with_image, repo_id).commit_sha == first.commit_sha
    assert writes(log) == []


@pytest.mark.parametrize(
    "content", [b"*.safetensors -text\n", RULE, b"* text=auto\n", b"", b"\xff\n"]
)
def test_what_somebody_else_wrote_is_found_out(
    hub: HubUploadServer,
    api: HfApi,
    with_image: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    commit: Callable[..., object] = HfApi.create_commit

    def commit_twice(*arguments: object, **options: object) -> object:
        commit(*arguments, **options)
        monkeypatch.undo()
        own = [CommitOperationAdd(ATTRIBUTES, content)]
        return api.create_commit(repo_id, own, commit_message="Somebody else")

    monkeypatch.setattr(HfApi, "create_commit", commit_twice)
    with pytest.raises(CheckFailedError, match="gitattributes is not what was sent"):
        push(with_image, repo_id)
