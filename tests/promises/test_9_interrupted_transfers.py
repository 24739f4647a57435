"""A transfer that is interrupted publishes nothing, and goes on where it ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from conv2linear import convert, push
from tests.operations.push.pushes import RESHAPED, SOURCE, push_in_portions
from tests.support.contents import read_files
from tests.support.hub.exchanges import Fault
from tests.support.hub.upload_server import HubUploadServer
from tests.support.progress import AtFirstBytes, AtStep, interrupt_run


def test_a_download(hub: HubUploadServer, commit_id: str, full: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    progress = AtFirstBytes("download", interrupt_run)
    with pytest.raises(KeyboardInterrupt):
        convert(SOURCE, out, revision=commit_id, device="cpu", progress=progress)
    assert progress.happened
    assert not out.exists()
    convert(SOURCE, out, revision=commit_id, device="cpu")
    assert read_files(out) == read_files(full)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("step", ["plan", "create", "upload", "commit"])
def test_a_push(hub: HubUploadServer, full: Path, repo_id: str, step: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        push(full, repo_id, progress=AtStep(step, interrupt_run))
    repository = hub.repositories_by_id.get(repo_id)
    assert repository is None or set(hub.contents(repo_id)) == {".gitattributes"}
    push(full, repo_id)
    assert hub.contents(repo_id) == read_files(full)


def test_what_was_uploaded_before_is_not_sent_again(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        push(full, repo_id, progress=AtStep("commit", interrupt_run))
    with hub.recording() as log:
        push(full, repo_id)
    assert log.of("*", "PUT").received_bytes() == 0


def test_a_pull_request_of_several_commits_is_closed(
    hub: HubUploadServer, full: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HfApi, "merge_pull_request", lambda *_, **__: interrupt_run())
    broken = Fault(f"*/{repo_id}/discussions/1/status", times=0)
    with hub.misbehaving(broken), pytest.raises(KeyboardInterrupt):
        push_in_portions(full, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes"}
    assert [p.status for p in hub.repositories_by_id[repo_id].pull_requests] == ["closed"]
    assert RESHAPED in read_files(full)
