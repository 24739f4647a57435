"""What the real client uploads is served again, and content that is wrong is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi, get_session
from huggingface_hub.errors import (
    FileDuplicationError,
)
from huggingface_hub.hf_api import RepoFile

from tests.support.hub.exchanges import Fault
from tests.support.hub.first_commit import CONFIG, CONTENT, SHARD, add, create
from tests.support.hub.store import OWNER_TOKEN
from tests.support.hub.upload_server import HubUploadServer


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
