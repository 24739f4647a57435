"""The Hub on loopback answers the real client as the Hub does, and misbehaves only when told to."""

import hashlib
import http.client
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers

from tests.support.hub.exchanges import Fault, gated, invalid_token
from tests.support.hub.read_server import HubServer
from tests.support.installed import need_release

SHARD = "model-00001-of-00001.safetensors"
SHARD_BYTES = random.Random(0).randbytes(25_000_000)
TEXT = '{"model_type": "glm4v", "name": "模型"}'


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module")
def commits(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Publish a repository twice; only its config.json differs, and the second one is main."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "nested").mkdir()
    (folder / "nested" / "naïve name.txt").write_text("text\n")
    (folder / SHARD).write_bytes(SHARD_BYTES)
    (folder / "config.json").write_text("{}")
    first = hub.publish("org/tiny", folder)
    (folder / "config.json").write_text(TEXT)
    return first, hub.publish("org/tiny", folder)


@pytest.fixture
def api(hub: HubServer, commits: tuple[str, str]) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


def test_a_tree_has_the_sizes_and_digests_of_its_commit(
    api: HfApi, commits: tuple[str, str]
) -> None:
    for commit, config_bytes in zip(commits, (2, len(TEXT.encode())), strict=True):
        tree = api.list_repo_tree("org/tiny", revision=commit, recursive=True)
        files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        assert set(files) == {"config.json", SHARD, "nested/naïve name.txt"}
        assert files["config.json"].size == config_bytes
        assert files["config.json"].lfs is None
        assert files[SHARD].size == len(SHARD_BYTES)
        lfs = files[SHARD].lfs
        assert lfs is not None
        assert lfs.sha256 == hashlib.sha256(SHARD_BYTES).hexdigest()


def test_the_default_revision_is_the_last_commit_of_main(
    api: HfApi, commits: tuple[str, str]
) -> None:
    assert api.model_info("org/tiny").sha == commits[1]
    assert api.model_info("org/tiny", revision="main").sha == commits[1]
    assert api.model_info("org/tiny", revision=commits[0]).sha == commits[0]


@pytest.mark.parametrize("name", ["config.json", SHARD, "nested/naïve name.txt"])
def test_a_downloaded_file_is_the_published_one(api: HfApi, tmp_path: Path, name: str) -> None:
    published = {"config.json": TEXT.encode(), SHARD: SHARD_BYTES}.get(name, b"text\n")
    path = api.hf_hub_download("org/tiny", name, local_dir=tmp_path)
    assert Path(path).read_bytes() == published


@pytest.mark.parametrize("name", ["config.json", SHARD])
@pytest.mark.parametrize("span", ["bytes=0-7", "bytes=8-", "bytes=-5", "bytes=5-999999999"])
def test_a_range_is_that_part_of_the_file(hub: HubServer, api: HfApi, name: str, span: str) -> None:
    content = TEXT.encode() if name == "config.json" else SHARD_BYTES
    expected = {
        "bytes=0-7": content[:8],
        "bytes=8-": content[8:],
        "bytes=-5": content[-5:],
        "bytes=5-999999999": content[5:],
    }[span]
    headers = {"Range": span, "Accept-Encoding": "identity"}
    url = f"{api.endpoint}/org/tiny/resolve/main/{name}"
    with hub.recording() as log:
        response = get_session().get(url, headers=headers)
    assert response.status_code == 206
    assert response.content == expected
    first = content.index(expected)
    assert response.headers["Content-Range"] == (
        f"bytes {first}-{first + len(expected) - 1}/{len(content)}"
    )
    assert log.spans(f"*{name}") == [(first, first + len(expected))]


def test_a_range_behind_the_end_is_refused(api: HfApi) -> None:
    url = f"{api.endpoint}/org/tiny/resolve/main/{SHARD}"
    response = get_session().get(url, headers={"Range": f"bytes={len(SHARD_BYTES)}-"})
    assert response.status_code == 416


def test_a_large_file_comes_from_an_origin_that_gets_no_token(hub: HubServer, api: HfApi) -> None:
    headers = {**build_hf_headers(token="hf_secret"), "Range": "bytes=0-9"}
    with hub.recording() as log:
        get_session().get(f"{api.endpoint}/org/tiny/resolve/main/{SHARD}", headers=headers)
    assert [(e.status, e.authorization) for e in log] == [(302, "Bearer hf_secret"), (206, None)]


@pytest.mark.parametrize(
    ("repo_id", "revision", "name", "error"),
    [
        ("org/absent", "main", "config.json", RepositoryNotFoundError),
        ("org/tiny", "absent", "config.json", RevisionNotFoundError),
        ("org/tiny", "0" * 40, "config.json", RevisionNotFoundError),
        ("org/tiny", "main", "absent.json", RemoteEntryNotFoundError),
    ],
)
def test_an_error_names_what_is_missing(
    api: HfApi, tmp_path: Path, repo_id: str, revision: str, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        api.hf_hub_download(repo_id, name, revision=revision, local_dir=tmp_path)
    if name == "config.json":
        with pytest.raises(error):
            api.repo_info(repo_id, revision=revision)
        with pytest.raises(error):
            list(api.list_repo_tree(repo_id, revision=revision))


def test_a_fault_lasts_as_long_as_its_block(hub: HubServer, api: HfApi) -> None:
    with hub.misbehaving(gated("*org/tiny*")), pytest.raises(GatedRepoError):
        api.model_info("org/tiny")
    unauthorized = pytest.raises(HfHubHTTPError, match="Invalid credentials")
    with hub.misbehaving(invalid_token("*org/tiny*")), unauthorized:
        api.model_info("org/tiny")
    api.model_info("org/tiny")


def test_a_fault_hits_as_many_requests_as_it_says(hub: HubServer, api: HfApi) -> None:
    url = f"{api.endpoint}/org/tiny/resolve/main/config.json"
    with hub.misbehaving(Fault("*/config.json", method="GET", status=503, times=2)):
        statuses = [get_session().get(url).status_code for _ in range(3)]
    assert statuses == [503, 503, 200]


def test_a_cut_download_resumes_and_the_log_shows_each_byte_sent(
    hub: HubServer, api: HfApi, tmp_path: Path
) -> None:
    need_release("huggingface_hub", "1.20", "before, it does not go on by itself")
    cut = Fault(f"/cdn/*/{SHARD}", method="GET", cut_after_bytes=15_000_000, times=1)
    with hub.recording() as log, hub.misbehaving(cut):
        path = api.hf_hub_download("org/tiny", SHARD, local_dir=tmp_path)
    assert Path(path).read_bytes() == SHARD_BYTES
    (_, first_stop), (second_start, second_stop) = log.spans(f"/cdn/*/{SHARD}")
    assert first_stop == 15_000_000
    assert 0 < second_start <= first_stop  # the client keeps whole chunks of what it received
    assert second_stop == len(SHARD_BYTES)
    assert log.sent_bytes(f"*{SHARD}") == first_stop + second_stop - second_start


def test_a_flipped_byte_is_the_only_difference(hub: HubServer, api: HfApi, tmp_path: Path) -> None:
    with hub.misbehaving(Fault("/cdn/*", method="GET", flip_byte=12_345_678)):
        path = api.hf_hub_download("org/tiny", SHARD, local_dir=tmp_path)
    received = Path(path).read_bytes()
    assert received[12_345_678] != SHARD_BYTES[12_345_678]
    assert received[:12_345_678] == SHARD_BYTES[:12_345_678]
    assert received[12_345_679:] == SHARD_BYTES[12_345_679:]


def test_a_hub_that_was_down_comes_back_at_the_same_address(hub: HubServer, api: HfApi) -> None:
    url = f"{api.endpoint}/org/tiny/resolve/main/config.json"
    with closing(http.client.HTTPConnection("127.0.0.1", hub.port)) as open_connection:
        open_connection.request("GET", "/org/tiny/resolve/main/config.json")
        assert open_connection.getresponse().read()
        hub.go_down()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", hub.port)).close()
        assert open_connection.sock.recv(1) == b""  # the server has ended it
    hub.come_back()
    assert get_session().get(url).status_code == 200
