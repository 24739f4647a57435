"""What the source has is copied on the server, and uploaded where the server will not."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv2linear.errors import Conv2LinearWarning, HubError, SourceNotFoundError
from conv2linear.operations.convert import convert
from conv2linear.operations.push import plan_push, push
from tests.operations.push.pushes import SOURCE, shard_bytes
from tests.support.contents import read_files
from tests.support.hub.exchanges import Fault, gated
from tests.support.hub.upload_server import HubUploadServer
from tests.support.progress import SeenProgress


def test_a_copy_between_regions_becomes_an_upload_of_the_whole_checkpoint(
    hub: HubUploadServer, full: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "region", "eu")
    progress = SeenProgress()
    with hub.recording() as log:
        done = push(full, repo_id, progress=progress)
    assert hub.contents(repo_id) == read_files(full)
    assert done.copied_file_count == 0
    assert shard_bytes(log) == sum(path.stat().st_size for path in full.glob("*.safetensors"))
    assert any("storage regions differ" in said for said in progress.warnings)
    assert done.warnings == tuple(progress.warnings)
    assert len(hub.repositories_by_id[repo_id].commits) == 2  # the first one is the Hub's own


def test_a_copy_between_regions_refuses_an_overlay(
    hub: HubUploadServer, overlay: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "region", "eu")
    with pytest.raises(HubError, match="storage regions differ") as refused:
        push(overlay, repo_id)
    assert refused.value.exit_code == 2
    assert "without --changed-only" in (refused.value.hint or "")
    assert set(hub.contents(repo_id)) == {".gitattributes"}


def test_a_copy_that_is_forbidden_becomes_an_upload(
    hub: HubUploadServer, full: Path, overlay: Path, repo_id: str
) -> None:
    forbidden = Fault("*/lfs-files/duplicate", status=403, headers=(("x-error-message", "no"),))
    with hub.misbehaving(forbidden):
        with pytest.raises(HubError, match="does not copy"):
            push(overlay, repo_id)
        assert push(full, repo_id, progress=SeenProgress()).copied_file_count == 0
    assert hub.contents(repo_id) == read_files(full)


def test_files_without_a_hash_of_xet_are_uploaded(
    hub: HubUploadServer,
    full: Path,
    overlay: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "has_xet", False)
    with pytest.raises(HubError, match="is not in this overlay"):
        push(overlay, repo_id)
    assert repo_id not in hub.repositories_by_id
    assert push(full, repo_id).copied_file_count == 0
    assert hub.contents(repo_id) == read_files(full)


def test_a_source_without_access_is_not_needed_for_a_whole_checkpoint(
    hub: HubUploadServer, full: Path, overlay: Path, repo_id: str
) -> None:
    progress = SeenProgress()
    with hub.misbehaving(gated(f"*/{SOURCE}/*")):
        with pytest.raises(SourceNotFoundError, match="gated"):
            push(overlay, repo_id)
        assert repo_id not in hub.repositories_by_id
        with pytest.warns(Conv2LinearWarning, match="gated"):
            planned = plan_push(full, repo_id)
        assert any("gated" in warning for warning in planned.warnings)
        push(full, repo_id, progress=progress)
    assert hub.contents(repo_id) == read_files(full)
    assert any("gated" in said for said in progress.warnings)


def test_a_checkpoint_from_a_folder_is_uploaded(
    hub: HubUploadServer, source: Path, repo_id: str, tmp_path: Path
) -> None:
    convert(source, tmp_path / "out")
    done = push(tmp_path / "out", repo_id)
    assert hub.contents(repo_id) == read_files(tmp_path / "out")
    assert done.copied_file_count == 0
    convert(source, tmp_path / "overlay", changed_only=True)
    with pytest.raises(HubError, match="is not in this overlay"):
        push(tmp_path / "overlay", f"{repo_id}-overlay")
    assert f"{repo_id}-overlay" not in hub.repositories_by_id
