"""What else than a checkpoint for all loaders is pushed: adapters, and what is for the engines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download

from conv2linear.errors import HubError
from conv2linear.operations.convert import convert
from conv2linear.operations.push import plan_push, push
from conv2linear.operations.restore import restore
from conv2linear.operations.verify.verify import verify
from conv2linear.plan.transfer import Transfer
from tests.operations.push.pushes import CHANGED, SOURCE, writes
from tests.support.adapters import save_adapter
from tests.support.contents import read_files
from tests.support.hub.upload_server import HubUploadServer

ENGINES = "vllm,sglang"
WEIGHTS = "adapter_model.safetensors"


def download(repo_id: str, folder: Path, revision: str = "main") -> Path:
    """Download a repository with the Hub's own client."""
    snapshot_download(repo_id, revision=revision, local_dir=folder)
    shutil.rmtree(folder / ".cache")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Read the files of a folder but for the rules that the Hub adds by itself."""
    return without_rules(read_files(folder))


def without_rules(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != ".gitattributes"}


@pytest.fixture
def adapter(hub: HubUploadServer, repo_id: str, tmp_path: Path) -> tuple[Path, str]:
    """Return an adapter, and the name of the repository that it is published in."""
    folder = save_adapter(tmp_path / "adapter")
    hub.publish(f"{repo_id}-adapter", folder)
    return folder, f"{repo_id}-adapter"


def test_an_adapter_from_a_folder_arrives_and_comes_back(
    hub: HubUploadServer, adapter: tuple[Path, str], repo_id: str, out: Path, tmp_path: Path
) -> None:
    source, _ = adapter
    convert(source, out)
    push(out, repo_id)
    assert without_rules(hub.contents(repo_id)) == read_files(out)
    with hub.recording() as log:
        again = push(out, repo_id)
    assert writes(log) == []
    assert {operation.kind for operation in again.operations} == {Transfer.KEEP}
    back = download(repo_id, tmp_path / "back")
    verification = verify(back, source=source)
    assert verification.passed, verification.failed
    restore(back, tmp_path / "restored")
    assert read_files(tmp_path / "restored") == read_files(source)


def test_an_adapter_from_the_hub_becomes_a_branch_of_its_repository(
    hub: HubUploadServer, adapter: tuple[Path, str], out: Path, tmp_path: Path
) -> None:
    source, name = adapter
    convert(name, out)
    planned = plan_push(out, name, revision="linear")
    kinds = {operation.name: operation.kind for operation in planned.operations}
    assert kinds["README.md"] is Transfer.KEEP
    assert kinds[WEIGHTS] is Transfer.UPLOAD
    push(out, name, revision="linear")
    assert hub.contents(name) == read_files(source)
    back = download(name, tmp_path / "back", revision="linear")
    assert contents(back) == read_files(out)
    assert verify(back, source="recorded").passed


def test_an_adapter_does_not_take_the_place_of_a_checkpoint_or_another_adapter(
    hub: HubUploadServer, api: HfApi, adapter: tuple[Path, str], full: Path, repo_id: str, out: Path
) -> None:
    source, _ = adapter
    convert(source, out)
    before = hub.contents(SOURCE)
    with pytest.raises(HubError, match="not part of this checkpoint"):
        push(out, SOURCE)
    assert hub.contents(SOURCE) == before
    other = save_adapter(out.parent / "other", r=4, lora_alpha=16)
    hub.publish(repo_id, other)
    with pytest.raises(HubError, match="holds another"):
        push(out, repo_id)
    assert hub.contents(repo_id) == read_files(other)


def test_an_overlay_for_the_engines_is_pushed_as_what_it_stands_for(
    hub: HubUploadServer, commit_id: str, repo_id: str, out: Path, tmp_path: Path
) -> None:
    convert(SOURCE, out, revision=commit_id, changed_only=True, loaders=ENGINES)
    assert set(read_files(out)) == set(CHANGED)
    convert(SOURCE, tmp_path / "whole", revision=commit_id, loaders=ENGINES)
    push(out, repo_id)
    assert hub.contents(repo_id) == read_files(tmp_path / "whole")
    back = download(repo_id, tmp_path / "back")
    verification = verify(back, source="recorded", checksums=True)
    assert verification.passed, verification.failed
    assert not verification.compatibility[0].loads


def test_an_overlay_for_the_engines_becomes_a_branch_of_its_source(
    hub: HubUploadServer, own_source: tuple[str, str], out: Path, tmp_path: Path
) -> None:
    name, commit = own_source
    convert(name, out, revision=commit, changed_only=True, loaders=ENGINES)
    done = push(out, name, revision="engines")
    kinds = {operation.name: operation.kind for operation in done.operations}
    assert kinds["config.json"] is Transfer.KEEP
    assert done.copied_file_count == 0
    assert verify(download(name, tmp_path / "back", revision="engines")).passed
