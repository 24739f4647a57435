"""What must not be published is refused before anything is sent, or found out afterwards."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from conv2linear.errors import (
    CheckFailedError,
    Conv2LinearError,
    HubError,
    SourceNotFoundError,
    SourceUnreadableError,
)
from conv2linear.operations.push import push
from tests.operations.push.pushes import RESHAPED, writes
from tests.support.hub.exchanges import Fault, gated
from tests.support.hub.upload_server import HubUploadServer


@pytest.mark.parametrize("name", [RESHAPED, "config.json", "README.md"])
def test_what_does_not_pass_verification_is_never_sent(
    hub: HubUploadServer, full: Path, repo_id: str, tmp_path: Path, name: str
) -> None:
    out = Path(shutil.copytree(full, tmp_path / "out"))
    content = bytearray((out / name).read_bytes())
    content[-1] ^= 1
    if name == RESHAPED:  # the last byte may be of a tensor that only --checksums would look at
        content = bytearray((out / name).read_bytes().replace(b"[128,1176]", b"[1176,128]"))
    (out / name).write_bytes(content)
    with hub.recording() as log, pytest.raises(CheckFailedError, match="does not pass"):
        push(out, repo_id)
    assert list(log) == []


def test_a_small_file_that_has_changed_since_is_never_sent(
    hub: HubUploadServer, full: Path, repo_id: str, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(full, tmp_path / "out"))
    text = (out / "generation_config.json").read_text()
    (out / "generation_config.json").write_text(text.replace("true", "True").replace("0", "1"))
    assert (out / "generation_config.json").stat().st_size == len(text)
    with pytest.raises(
        CheckFailedError, match=r"generation_config\.json is not what was converted"
    ):
        push(out, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes"}


def test_a_repository_with_another_checkpoint_is_not_overwritten(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    other = [CommitOperationAdd("config.json", b'{"model_type": "bert"}\n')]
    api.create_commit(repo_id, other, commit_message="Another model")
    before = hub.contents(repo_id)
    with hub.recording() as log, pytest.raises(HubError, match="another checkpoint"):
        push(full, repo_id)
    assert writes(log) == []
    push(full, repo_id, create_pr=True)
    assert hub.contents(repo_id) == before


def test_weights_that_would_stay_beside_are_an_error(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    other = [CommitOperationAdd("model.safetensors", b"x" * 2000)]
    api.create_commit(repo_id, other, commit_message="Another model")
    for create_pr in (False, True):
        with hub.recording() as log, pytest.raises(HubError, match="not part of"):
            push(full, repo_id, create_pr=create_pr)
        assert writes(log) == []


def test_a_public_repository_is_not_taken_for_a_private_one(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    with hub.recording() as log, pytest.raises(HubError, match="is public"):
        push(full, repo_id, private=True)
    assert writes(log) == []


def test_a_gated_target_is_not_taken_for_a_new_one(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    with (
        hub.recording() as log,
        hub.misbehaving(gated(f"*/{repo_id}*")),
        pytest.raises(SourceNotFoundError, match="gated"),
    ):
        push(full, repo_id)
    assert writes(log) == []


def test_a_folder_that_was_not_converted_is_refused(
    hub: HubUploadServer, source: Path, repo_id: str
) -> None:
    with hub.recording() as log, pytest.raises(Conv2LinearError, match=r"no conv2linear\.json"):
        push(source, repo_id)
    assert list(log) == []


def test_a_hub_that_loses_a_file_is_found_out(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    with (
        hub.misbehaving(Fault("*/commit/*", lost_file="config.json")),
        pytest.raises(CheckFailedError, match=r"config\.json is not what was sent"),
    ):
        push(full, repo_id)


def test_an_upload_that_fails_leaves_nothing(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    with (
        hub.misbehaving(Fault("/lfs/*", method="PUT", status=400)),
        pytest.raises(HubError, match="refuses"),
    ):
        push(full, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes"}


@pytest.mark.parametrize("name", ["name", "org/", "org/na--me", "org/na me", "a/b/c", "-org/name"])
def test_only_what_may_name_a_repository_is_asked_of_the_hub(
    hub: HubUploadServer, full: Path, name: str
) -> None:
    with hub.recording() as log, pytest.raises(SourceNotFoundError, match="repository id") as bad:
        push(full, name)
    assert list(log) == []
    assert "\n" not in str(bad.value)
    assert "org/name" in (bad.value.hint or "")


def test_a_folder_that_cannot_be_read_is_not_an_error_of_writing(
    full: Path, repo_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(full, tmp_path / "out"))
    upload = HfApi.preupload_lfs_files

    def lose_the_disk(self: HfApi, *arguments: Any, **options: Any) -> None:
        upload(self, *arguments, **options)
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(out / RESHAPED))

    monkeypatch.setattr(HfApi, "preupload_lfs_files", lose_the_disk)
    with pytest.raises(SourceUnreadableError, match=RESHAPED):
        push(out, repo_id)
