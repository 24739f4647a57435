"""A push goes to an address as to an id, and takes a checkpoint in a folder to where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv2linear import convert, inspect_checkpoint, plan_push, push, verify
from conv2linear.errors import Conv2LinearError, SourceNotFoundError
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint
from tests.support.contents import read_files
from tests.support.hub.upload_server import HubUploadServer

FOLDER = "tower"


@pytest.mark.parametrize(
    ("address", "branch"),
    [
        ("https://huggingface.co/{repo_id}", "main"),
        ("https://huggingface.co/{repo_id}/tree/linear", "linear"),
        ("hf://{repo_id}@linear", "linear"),
        ("{repo_id}@linear", "linear"),
    ],
)
def test_an_address_names_repository_and_branch(
    hub: HubUploadServer, full: Path, repo_id: str, address: str, branch: str
) -> None:
    plan = plan_push(full, address.format(repo_id=repo_id))
    assert (plan.repo_id, plan.branch) == (repo_id, branch)
    assert repo_id not in hub.repositories_by_id


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://{repo_id}@refs/pr/3", "not the name of a branch"),
        ("https://huggingface.co/datasets/{repo_id}", "a dataset, not of a model"),
        ("https://huggingface.co/{repo_id}/tree/other", "two revisions"),
    ],
)
def test_an_address_of_what_is_no_branch(
    hub: HubUploadServer, full: Path, repo_id: str, address: str, words: str
) -> None:
    revision = "linear" if "other" in address else None
    with pytest.raises(Conv2LinearError, match=words):
        plan_push(full, address.format(repo_id=repo_id), revision=revision)


@pytest.fixture
def nested(hub: HubUploadServer, repo_id: str, tmp_path: Path) -> str:
    """Return a repository with a checkpoint at the top, and another one in a folder."""
    folder = write_checkpoint(tmp_path / "model", shards=2, kernel=SMALL_KERNEL, filler_bytes=64)
    write_checkpoint(folder / FOLDER, shards=1, seed=1, kernel=SMALL_KERNEL, filler_bytes=64)
    name = f"{repo_id}-nested"
    hub.publish(name, folder)
    return name


@pytest.mark.parametrize("changed_only", [False, True])
def test_a_checkpoint_in_a_folder_is_published_whole(
    hub: HubUploadServer, nested: str, repo_id: str, out: Path, tmp_path: Path, changed_only: bool
) -> None:
    convert(nested, out, subfolder=FOLDER, changed_only=changed_only, device="cpu")
    push(out, repo_id)
    whole = tmp_path / "whole"
    convert(nested, whole, subfolder=FOLDER, device="cpu")
    found = hub.contents(repo_id)
    del found[".gitattributes"]  # which the Hub makes by itself
    assert found == read_files(whole)
    verification = verify(repo_id, source="recorded", device="cpu")
    assert verification.passed, verification.failed


def test_it_does_not_replace_the_conversion_of_another_folder(
    hub: HubUploadServer, nested: str, repo_id: str, out: Path, tmp_path: Path
) -> None:
    convert(nested, out, device="cpu")
    push(out, repo_id)
    convert(nested, tmp_path / "tower", subfolder=FOLDER, device="cpu")
    with pytest.raises(Conv2LinearError, match="holds another model"):
        push(tmp_path / "tower", repo_id)


@pytest.mark.parametrize("form", ["tree/feature/x", "tree/feature%2Fx"])
def test_the_address_of_a_branch_with_a_slash(
    hub: HubUploadServer, repo_id: str, source: Path, form: str
) -> None:
    name = f"{repo_id}-slash"
    commit = hub.publish(name, source, branch="feature/x")
    inspection = inspect_checkpoint(f"https://huggingface.co/{name}/{form}")
    assert inspection.origin is not None
    assert inspection.origin.commit_sha == commit


def test_what_may_be_a_folder_behind_a_branch_says_so(
    hub: HubUploadServer, repo_id: str, source: Path
) -> None:
    name = f"{repo_id}-folder"
    hub.publish(name, source, branch="feature")
    with pytest.raises(SourceNotFoundError, match="no revision 'feature/tower'") as raised:
        inspect_checkpoint(f"https://huggingface.co/{name}/tree/feature/tower")
    assert "--subfolder" in str(raised.value.hint)


def test_a_checkpoint_in_a_folder_of_the_hub(
    hub: HubUploadServer, nested: str, tmp_path: Path
) -> None:
    with hub.recording() as log:
        inspection = inspect_checkpoint(nested, subfolder=FOLDER)
    assert inspection.embeddings[0].shard.startswith(f"{FOLDER}/")
    assert any("the top folder" in warning for warning in inspection.warnings)
    # Of the other checkpoint its index is read, and the header of the one shard with the kernel.
    read = {exchange.path.rpartition("/")[2] for exchange in log.of("/org/*/resolve/*")}
    assert {name for name in read if "of-00002" in name} == {"model-00002-of-00002.safetensors"}
