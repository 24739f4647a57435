"""The upload stand-in takes what the real client sends, serves it again, and refuses as the Hub."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi, constants, get_session
from huggingface_hub.errors import (
    FileDuplicationError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from tests.support.hub.exchanges import Fault
from tests.support.hub.store import OWNER_TOKEN, READER_TOKEN
from tests.support.hub.upload_server import HubUploadServer

SHARD = "model.safetensors"
CONTENT = random.Random(0).randbytes(300_000)
CONFIG = b'{"model_type": "glm4v"}\n'


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubUploadServer]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    (tmp_path / "hub").mkdir()
    with HubUploadServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def api(hub: HubUploadServer) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=OWNER_TOKEN)


def add(**files: bytes) -> list[CommitOperationAdd]:
    names = {"shard": SHARD, "config": "config.json"}
    return [CommitOperationAdd(names[key], content) for key, content in files.items()]


def create(api: HfApi, repo_id: str = "org/new") -> str:
    api.create_repo(repo_id)
    commit = api.create_commit(
        repo_id, add(shard=CONTENT, config=CONFIG), commit_message="First files"
    )
    return commit.oid


@pytest.mark.parametrize("part_bytes", [1_000_000, 100_000, 70_000])
def test_a_commit_is_downloaded_again_by_the_real_client(
    hub: HubUploadServer, api: HfApi, tmp_path: Path, part_bytes: int
) -> None:
    hub.part_bytes = part_bytes
    with hub.recording() as log:
        commit_id = create(api)
    puts = log.of("/lfs/*", "PUT")
    assert len(puts) == -(-len(CONTENT) // part_bytes)
    assert log.of("/lfs/*", "PUT").received_bytes() == len(CONTENT)
    assert {exchange.authorization for exchange in puts} == {None}
    folder = Path(api.snapshot_download("org/new", local_dir=tmp_path / "local"))
    assert (folder / SHARD).read_bytes() == CONTENT
    assert (folder / "config.json").read_bytes() == CONFIG
    assert (folder / ".gitattributes").is_file()
    info = api.model_info("org/new", files_metadata=True)
    assert info.sha == commit_id
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    assert sizes[SHARD] == len(CONTENT)


def test_a_tree_tells_large_files_from_small_ones(api: HfApi) -> None:
    create(api)
    tree = api.list_repo_tree("org/new", recursive=True)
    files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    lfs = files[SHARD].lfs
    assert lfs is not None
    assert lfs.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert files["config.json"].lfs is None
    named = b"blob %d\0" % len(CONFIG) + CONFIG
    assert files["config.json"].blob_id == hashlib.sha1(named).hexdigest()


def test_a_range_is_that_part_of_the_file(api: HfApi) -> None:
    create(api)
    url = f"{api.endpoint}/org/new/resolve/main/{SHARD}"
    response = get_session().get(url, headers={"Range": "bytes=1000-1999"})
    assert (response.status_code, response.content) == (206, CONTENT[1000:2000])


def test_content_that_is_there_is_not_uploaded_twice(hub: HubUploadServer, api: HfApi) -> None:
    create(api)
    with hub.recording() as log:
        again = [CommitOperationAdd("copy.safetensors", CONTENT)]
        api.create_commit("org/new", again, commit_message="The same once more")
    assert log.received_bytes("/lfs/*") == 0
    assert hub.contents("org/new")["copy.safetensors"] == CONTENT


def test_large_files_of_another_repository_are_copied_on_the_server(
    hub: HubUploadServer, api: HfApi
) -> None:
    source = create(api, "org/source")
    api.create_repo("org/target")
    copies = [
        CommitOperationCopy(name, name, source, "org/source", "model")
        for name in (SHARD, "config.json")
    ]
    with hub.recording() as log:
        api.create_commit("org/target", copies, commit_message="Copy")
    assert log.received_bytes("/lfs/*") == 0
    assert log.received_bytes() < 10_000
    assert hub.contents("org/target")[SHARD] == CONTENT
    assert hub.contents("org/target")["config.json"] == CONFIG


def test_a_copy_between_storage_regions_is_refused(hub: HubUploadServer, api: HfApi) -> None:
    source = create(api, "org/source")
    hub.region = "eu"
    api.create_repo("org/target")
    before = hub.contents("org/target")
    copy = [CommitOperationCopy(SHARD, SHARD, source, "org/source", "model")]
    with pytest.raises(FileDuplicationError, match="storage regions differ"):
        api.create_commit("org/target", copy, commit_message="Copy")
    assert hub.contents("org/target") == before


def test_a_private_source_is_not_there_for_others(hub: HubUploadServer, api: HfApi) -> None:
    api.create_repo("org/source", private=True)
    reader = HfApi(endpoint=hub.endpoint, token=READER_TOKEN)
    with pytest.raises(RepositoryNotFoundError):
        reader.model_info("org/source")
    assert api.model_info("org/source").private


@pytest.mark.parametrize(
    ("token", "status"), [(READER_TOKEN, 403), (False, 401), ("hf_unknown", 401)]
)
def test_only_the_owner_writes(
    hub: HubUploadServer, api: HfApi, token: str | bool, status: int
) -> None:
    create(api)
    before = hub.contents("org/new")
    stranger = HfApi(endpoint=hub.endpoint, token=token)
    with pytest.raises(HfHubHTTPError) as commit:
        stranger.create_commit("org/new", add(config=b"{}"), commit_message="Not mine")
    with pytest.raises(HfHubHTTPError) as creation:
        stranger.create_repo("org/other")
    assert {e.value.response.status_code for e in (commit, creation)} == {status}
    assert hub.contents("org/new") == before


def test_a_stranger_proposes_only_by_name(hub: HubUploadServer, api: HfApi) -> None:
    create(api)

    def propose(token: str | bool) -> None:
        stranger = HfApi(endpoint=hub.endpoint, token=token)
        stranger.create_commit(
            "org/new", add(config=b"{}"), commit_message="Propose", create_pr=True
        )

    with pytest.raises(HfHubHTTPError):
        propose(False)
    propose(READER_TOKEN)
    assert len(hub.repositories_by_id["org/new"].pull_requests) == 1


def test_what_is_there_is_not_created_again(api: HfApi) -> None:
    create(api)
    api.create_branch("org/new", branch="linear")
    for attempt in (
        lambda: api.create_repo("org/new"),
        lambda: api.create_branch("org/new", branch="linear"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            attempt()
        assert refused.value.response.status_code == 409


def test_a_commit_on_a_parent_that_has_moved_is_refused(hub: HubUploadServer, api: HfApi) -> None:
    parent = create(api)
    api.create_commit("org/new", add(config=b"[]"), commit_message="Someone else")
    before = hub.contents("org/new")
    for stale in (parent, "0" * 40):
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_commit(
                "org/new", add(config=b"{}"), commit_message="Late", parent_commit=stale
            )
        assert refused.value.response.status_code == 412
    assert hub.contents("org/new") == before


def test_a_pull_request_from_an_unknown_parent_is_refused(api: HfApi) -> None:
    create(api)
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(
            "org/new",
            add(config=b"{}"),
            commit_message="From nowhere",
            parent_commit="0" * 40,
            create_pr=True,
        )


def test_a_branch_starts_at_the_commit_that_it_is_given(hub: HubUploadServer, api: HfApi) -> None:
    first = create(api)
    api.create_commit("org/new", add(config=b"[]"), commit_message="Newer")
    api.create_branch("org/new", branch="linear/beside", revision=first)
    assert hub.contents("org/new", "linear/beside")["config.json"] == CONFIG
    assert api.model_info("org/new", revision="linear/beside").sha == first
    refs = api.list_repo_refs("org/new")
    assert {ref.name: ref.target_commit for ref in refs.branches}["linear/beside"] == first
    with pytest.raises(RevisionNotFoundError):
        api.create_branch("org/new", branch="other", revision="0" * 40)


def test_a_pull_request_changes_its_branch_when_it_is_merged(
    hub: HubUploadServer, api: HfApi, tmp_path: Path
) -> None:
    first = create(api)
    proposed = api.create_commit(
        "org/new", add(config=b"{}"), commit_message="Propose", create_pr=True
    )
    assert (proposed.pr_revision, proposed.pr_num) == ("refs/pr/1", 1)
    more = [CommitOperationAdd("README.md", b"---\ntags: []\n---\nHello\n")]
    api.create_commit("org/new", more, commit_message="More", revision="refs/pr/1")
    assert hub.contents("org/new")["config.json"] == CONFIG
    path = api.hf_hub_download("org/new", "README.md", revision="refs/pr/1", local_dir=tmp_path)
    assert Path(path).read_text().endswith("Hello\n")
    assert api.get_discussion_details("org/new", 1).status == "open"
    api.merge_pull_request("org/new", 1)
    details = api.get_discussion_details("org/new", 1)
    assert (details.status, details.target_branch) == ("merged", "refs/heads/main")
    assert api.model_info("org/new").sha == details.merge_commit_oid
    merged = hub.contents("org/new")
    assert merged["config.json"] == b"{}"
    assert merged[SHARD] == CONTENT
    assert [commit.commit_id for commit in api.list_repo_commits("org/new")][1] == first


def test_a_pull_request_that_conflicts_or_is_closed_is_not_merged(api: HfApi) -> None:
    create(api)
    for text in (b"{}", b"[]"):
        api.create_commit("org/new", add(config=text), commit_message="Propose", create_pr=True)
    api.merge_pull_request("org/new", 1)
    assert api.get_discussion_details("org/new", 2).conflicting_files == ["config.json"]
    with pytest.raises(HfHubHTTPError, match="conflicts"):
        api.merge_pull_request("org/new", 2)
    readme = [CommitOperationAdd("README.md", b"Hello\n")]
    api.create_commit("org/new", readme, commit_message="Propose", create_pr=True)
    api.change_discussion_status("org/new", 3, "closed")
    with pytest.raises(HfHubHTTPError, match="closed cannot be merged"):
        api.merge_pull_request("org/new", 3)
    api.change_discussion_status("org/new", 3, "open")
    api.merge_pull_request("org/new", 3)


def test_content_with_another_hash_is_refused(hub: HubUploadServer, api: HfApi) -> None:
    api.create_repo("org/new")
    announced = hashlib.sha256(CONTENT).hexdigest()
    url = f"{hub.endpoint}/lfs/org/new/{announced}"
    assert get_session().put(f"{url}/whole", content=CONTENT[:-1]).status_code == 400
    headers = {"Authorization": f"Bearer {OWNER_TOKEN}"}
    verified = get_session().post(
        f"{url}/verify", json={"oid": announced, "size": len(CONTENT)}, headers=headers
    )
    assert verified.status_code == 404


def test_parts_that_were_not_uploaded_are_refused(hub: HubUploadServer, api: HfApi) -> None:
    api.create_repo("org/new")
    url = f"{hub.endpoint}/lfs/org/new/{hashlib.sha256(CONTENT).hexdigest()}"
    etag = get_session().put(f"{url}/part/1", content=CONTENT).headers["etag"]
    for parts, status in (([], 400), ([{"partNumber": 1, "etag": etag}], 200)):
        get_session().put(f"{url}/part/1", content=CONTENT)
        answer = get_session().post(f"{url}/complete", json={"parts": parts})
        assert answer.status_code == status


def test_a_commit_to_an_object_that_is_missing_is_refused(hub: HubUploadServer, api: HfApi) -> None:
    create(api, "org/source")
    api.create_repo("org/new")
    before = hub.contents("org/new")
    oid = hashlib.sha256(CONTENT).hexdigest()  # another repository has it
    lines = [
        {"key": "header", "value": {"summary": "Nothing behind it", "description": ""}},
        {"key": "lfsFile", "value": {"path": SHARD, "algo": "sha256", "oid": oid, "size": 1}},
    ]
    answer = get_session().post(
        f"{hub.endpoint}/api/models/org/new/commit/main",
        content=b"".join(json.dumps(line).encode() + b"\n" for line in lines),
        headers={"Authorization": f"Bearer {OWNER_TOKEN}"},
    )
    assert answer.status_code == 400
    assert hub.contents("org/new") == before


def test_what_gitignore_names_is_left_out_by_the_client(hub: HubUploadServer, api: HfApi) -> None:
    create(api)
    ignore = [CommitOperationAdd(".gitignore", b"*.safetensors\n")]
    api.create_commit("org/new", ignore, commit_message="Ignore")
    more = [CommitOperationAdd("other.safetensors", b"x" * 100), *add(config=b"{}")]
    api.create_commit("org/new", more, commit_message="Add")
    assert "other.safetensors" not in hub.contents("org/new")


def test_a_fault_lets_a_commit_lose_a_file(hub: HubUploadServer, api: HfApi) -> None:
    create(api)
    with hub.misbehaving(Fault("*/commit/*", lost_file="*.json")):
        more = [CommitOperationAdd("README.md", b"Hello\n"), *add(config=b"{}")]
        api.create_commit("org/new", more, commit_message="Add two files")
    contents = hub.contents("org/new")
    assert contents["README.md"] == b"Hello\n"
    assert contents["config.json"] == CONFIG


def test_the_environment_leads_a_new_process_here(
    hub: HubUploadServer, api: HfApi, tmp_path: Path
) -> None:
    create(api)
    program = "import huggingface_hub as h; print(h.model_info('org/new').sha)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=hub.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == api.model_info("org/new").sha
