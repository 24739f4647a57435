"""A checkpoint on the Hub is read in pieces, downloaded once, and every failure is named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file

from conv2linear import convert, inspect_checkpoint
from conv2linear.checkpoint.header import read_header
from tests.support.checkpoints import WEIGHT
from tests.support.contents import snapshot
from tests.support.hub_server import Fault, HubServer, Log, gated, invalid_token
from tests.support.processes import Finished, RunCli

NO_WAIT = (("retry-after", "0"),)


@dataclass(frozen=True)
class Published:
    """A Hub with what was put there, and the folders that it came from."""

    hub: HubServer
    sharded: Path
    single: Path
    first_commit: str
    main_commit: str


@pytest.fixture(scope="module")
def published(
    tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    root = tmp_path_factory.mktemp("hub")
    sharded = Path(shutil.copytree(tiny_model(), root / "sharded"))
    (sharded / "README.md").write_text("---\nlicense: mit\n---\n# 模型\n")
    (sharded / "assets").mkdir()
    (sharded / "assets" / "naïve name.txt").write_text("text\n")
    single = tiny_model("glm_ocr", max_shard_size="1GB")
    with HubServer.start(root / "server") as hub:
        (sharded / "old.txt").write_text("of the first commit\n")
        first = hub.publish("org/tiny", sharded)
        (sharded / "old.txt").unlink()
        main = hub.publish("org/tiny", sharded)
        hub.publish("org/tiny", tiny_model("glm_ocr"), branch="ocr")
        hub.publish("org/single", single)
        yield Published(hub, sharded, single, first, main)


@dataclass(frozen=True)
class HubCli:
    """The command line against that Hub, with an empty cache of its own."""

    run_cli: RunCli
    published: Published
    home: Path
    base: dict[str, str]

    def __call__(
        self, *arguments: str | Path, cwd: Path | None = None, timeout: float = 120, **env: str
    ) -> Finished:
        environment = self.base | self.published.hub.environment(self.home) | env
        return self.run_cli(*arguments, env=environment, cwd=cwd, timeout=timeout)

    def warm_cache(self, repo_id: str, **options: Any) -> None:
        """Download a snapshot with the client itself."""
        api = HfApi(endpoint=self.published.hub.endpoint, token=False)
        api.snapshot_download(repo_id, cache_dir=self.home / "hub", **options)


@pytest.fixture
def cli(
    run_cli: RunCli, published: Published, tmp_path: Path, cli_environment: dict[str, str]
) -> HubCli:
    base = {n: v for n, v in cli_environment.items() if not n.startswith("HF_")}
    return HubCli(run_cli, published, tmp_path / "home", base)


def bodies(log: Log, name: str) -> list[tuple[int, int]]:
    """Return the parts of a file that were sent, in the order of their start."""
    return log.spans(f"/*/resolve/*/{name}")


def contents(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    return {n: c for n, (c, _, _) in snapshot(folder).items() if n not in without}


@pytest.fixture(scope="module")
def expected(
    published: Published, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Path]:
    """Return a function that converts the folder that a repository was made from."""
    root = tmp_path_factory.mktemp("expected")

    def get(source: Path) -> Path:
        folder = root / source.name
        if not folder.exists():
            convert(source, folder, device="cpu")
        return folder

    return get


def assert_converted(out: Path, expected: Path, *, repo_id: str, commit: str) -> None:
    """Check that the output is that of the folder, but for where it says that it came from."""
    own = ("conv2linear.json", "README.md")
    assert contents(out, without=own) == contents(expected, without=own)
    manifest = json.loads((out / "conv2linear.json").read_text())
    assert manifest["source"] == {"repo_id": repo_id, "commit_sha": commit}
    assert repo_id in (out / "README.md").read_text()
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert not (out / ".cache").exists()


# --- inspect --------------------------------------------------------------------------------------


def test_inspect_says_of_a_repository_what_it_says_of_its_folder(
    cli: HubCli, published: Published
) -> None:
    done = cli("inspect", "org/tiny", "--json")
    assert done.code == 0
    found = done.json
    local = inspect_checkpoint(published.sharded)
    assert found["origin"] == {"repo_id": "org/tiny", "commit_sha": published.main_commit}
    assert found["source"] == "org/tiny"
    for key in ("model_type", "layout", "quantization", "shards", "files", "total_bytes"):
        assert found[key] == getattr(local, key), key
    assert [e["name"] for e in found["embeddings"]] == [WEIGHT]
    assert found["refusal_reason"] is None
    config_bytes = (published.sharded / "config.json").stat().st_size
    assert found["full"]["download_bytes"] == local.total_bytes - config_bytes
    (shard,) = (embedding["shard"] for embedding in found["embeddings"])
    assert found["changed_only"]["download_bytes"] == (published.sharded / shard).stat().st_size


def header_parts(path: Path) -> list[tuple[int, int]]:
    """Return the parts in which a header is read: its length, then exactly the rest of it."""
    return [(0, 8), (8, read_header(path).data_start)]


def test_inspect_moves_headers_and_no_shard(cli: HubCli, published: Published) -> None:
    with published.hub.proxy.recording() as log:
        assert cli("inspect", "org/tiny").code == 0
    for path in published.sharded.glob("*.safetensors"):
        assert bodies(log, path.name) == header_parts(path)
    for name in ("generation_config.json", "README.md", "assets/*"):
        assert bodies(log, name) == []


def test_a_long_header_is_read_whole(cli: HubCli, published: Published, tmp_path: Path) -> None:
    source = Path(shutil.copytree(published.single, tmp_path / "source"))
    path = source / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "long": "x" * 150_000})
    published.hub.publish("org/long", source)
    with published.hub.proxy.recording() as log:
        done = cli("inspect", "org/long", "--json")
    assert done.json["layout"] == "conv3d"
    assert bodies(log, path.name) == header_parts(path)


@pytest.mark.parametrize("spelling", ["option", "suffix"])
@pytest.mark.parametrize("revision", ["main", "ocr", "first commit", "main commit"])
def test_a_revision_is_resolved_to_its_commit(
    cli: HubCli, published: Published, revision: str, spelling: str
) -> None:
    commits = {"first commit": published.first_commit, "main commit": published.main_commit}
    name = commits.get(revision, revision)
    arguments = ["org/tiny", "--revision", name] if spelling == "option" else [f"org/tiny@{name}"]
    found = cli("inspect", *arguments, "--json").json
    assert found["model_type"] == ("glm_ocr" if revision == "ocr" else "glm4v")
    commit = found["origin"]["commit_sha"]
    if revision in ("main", "main commit"):
        assert commit == published.main_commit
    elif revision == "first commit":
        assert commit == published.first_commit
        assert found["file_count"] == inspect_checkpoint(published.sharded).file_count + 1
    else:
        assert commit not in commits.values()


def test_a_folder_that_exists_is_never_asked_of_the_hub(
    cli: HubCli, published: Published, tmp_path: Path
) -> None:
    shutil.copytree(published.single, tmp_path / "org" / "tiny")
    with published.hub.proxy.recording() as log:
        found = cli("inspect", "org/tiny", "--json", cwd=tmp_path).json
        cli("inspect", "./org/nothing", cwd=tmp_path).assert_refused("no such folder")
    assert found["model_type"] == "glm_ocr"
    assert found["origin"] is None
    assert log == []


# --- convert --------------------------------------------------------------------------------------


def test_a_repository_is_converted_as_its_folder_would_be(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    done = cli("convert", "org/tiny", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    assert_converted(
        out, expected(published.sharded), repo_id="org/tiny", commit=published.main_commit
    )


def test_the_manifest_has_the_hashes_that_the_hub_gives(
    cli: HubCli, published: Published, out: Path
) -> None:
    assert cli("convert", "org/tiny", out, "--device", "cpu").code == 0
    manifest = json.loads((out / "conv2linear.json").read_text())
    hashes = {file["name"]: file["sha256"] for file in manifest["files"]}
    (shard,) = (entry["name"] for entry in manifest["shards"])
    for path in out.glob("*.safetensors"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert hashes[path.name] == (None if path.name == shard else digest)


def assert_each_byte_once(parts: list[tuple[int, int]], start: int, end: int) -> None:
    """Check that parts of a file stand one behind the other, without a hole and an overlap."""
    assert [start, *(stop for _, stop in parts)] == [*(first for first, _ in parts), end]


def test_every_byte_is_downloaded_once(cli: HubCli, published: Published, out: Path) -> None:
    with published.hub.proxy.recording() as log:
        assert cli("convert", "org/tiny", out, "--device", "cpu").code == 0
    for path in published.sharded.rglob("*"):
        if path.is_file():
            assert_each_byte_once(bodies(log, path.name), 0, path.stat().st_size)
    assert all(e.authorization is None for e in log)


def test_a_token_goes_to_the_hub_and_not_to_the_storage_behind_it(
    cli: HubCli, published: Published
) -> None:
    with published.hub.proxy.recording() as log:
        assert cli("inspect", "org/single", HF_TOKEN="hf_secret").code == 0
    assert {e.authorization for e in log.of("/api/models/*")} == {"Bearer hf_secret"}
    assert {e.authorization for e in log.of("/cdn/*")} == {None}


def test_a_dry_run_downloads_no_shard_and_tells_how_much_it_would(
    cli: HubCli, published: Published, out: Path
) -> None:
    with published.hub.proxy.recording() as log:
        done = cli("convert", "org/single", out, "--dry-run", "--json")
    assert done.code == 0
    assert bodies(log, "*.safetensors") == header_parts(published.single / "model.safetensors")
    sizes = {path.name: path.stat().st_size for path in published.single.iterdir()}
    assert done.json["download_bytes"] == sum(sizes.values()) - sizes["config.json"]
    assert list(out.parent.iterdir()) == []


def test_what_cannot_be_converted_is_not_downloaded(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    published.hub.publish("org/linear", expected(published.single))
    with published.hub.proxy.recording() as log:
        cli("convert", "org/linear", out).assert_refused("org/linear", "linear already")
    linear = expected(published.single) / "model.safetensors"
    assert bodies(log, "*.safetensors") == header_parts(linear)
    assert list(out.parent.iterdir()) == []


# --- the cache ------------------------------------------------------------------------------------


def test_what_is_cached_is_cloned_and_not_downloaded(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    cli.warm_cache("org/tiny")
    before = snapshot(cli.home / "hub" / "models--org--tiny" / "blobs")
    with published.hub.proxy.recording() as log:
        inspected = cli("inspect", "org/tiny", "--json")
        done = cli("convert", "org/tiny", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    assert inspected.json["full"]["download_bytes"] == 0
    assert log.of("/cdn/*", "GET") == []
    assert log.of("*/resolve/*", "GET") == []
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert_converted(
        out, expected(published.sharded), repo_id="org/tiny", commit=published.main_commit
    )
    assert snapshot(cli.home / "hub" / "models--org--tiny" / "blobs") == before


def test_of_a_cache_that_has_a_part_only_the_rest_is_downloaded(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    shards = sorted(path.name for path in published.sharded.glob("*.safetensors"))
    cli.warm_cache("org/tiny", allow_patterns=[shards[0], shards[-1], "*.json"])
    with published.hub.proxy.recording() as log:
        assert cli("convert", "org/tiny", out, "--device", "cpu").code == 0
    asked = {path.rpartition("/")[2] for path in (e.path for e in log.of("/cdn/*", "GET"))}
    assert asked == set(shards[1:-1])
    assert_converted(
        out, expected(published.sharded), repo_id="org/tiny", commit=published.main_commit
    )


def test_hard_links_share_the_blobs_of_the_cache(
    cli: HubCli, published: Published, out: Path
) -> None:
    cli.warm_cache("org/tiny")
    blobs = cli.home / "hub" / "models--org--tiny" / "blobs"
    before = snapshot(blobs)
    assert cli("convert", "org/tiny", out, "--hardlink", "--device", "cpu").code == 0
    linked = {path.stat().st_ino for path in blobs.iterdir()}
    shards = list(out.glob("*.safetensors"))
    assert sum(path.stat().st_ino in linked for path in shards) == len(shards) - 1
    assert snapshot(blobs) == before


def test_offline_a_warm_cache_is_all_that_is_needed(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    cli.warm_cache("org/tiny")
    with published.hub.proxy.recording() as log:
        inspected = cli("inspect", "org/tiny", "--json", HF_HUB_OFFLINE="1")
        done = cli("convert", "org/tiny", out, "--device", "cpu", HF_HUB_OFFLINE="1")
    assert done.code == 0, done.stderr
    assert inspected.json["origin"]["commit_sha"] == published.main_commit
    assert log == []
    assert_converted(
        out, expected(published.sharded), repo_id="org/tiny", commit=published.main_commit
    )


@pytest.mark.parametrize("revision", [(), ("--revision", "absent")])
def test_offline_a_cold_cache_is_named(cli: HubCli, out: Path, revision: tuple[str, ...]) -> None:
    if revision:
        cli.warm_cache("org/tiny")
    done = cli("convert", "org/tiny", out, *revision, HF_HUB_OFFLINE="1")
    done.assert_refused("org/tiny", "not in the cache", "HF_HUB_OFFLINE")
    assert list(out.parent.iterdir()) == []


def test_offline_a_cache_with_a_shard_missing_is_named(cli: HubCli, out: Path) -> None:
    cli.warm_cache("org/tiny", ignore_patterns=["model-00002-of-*"])
    done = cli("convert", "org/tiny", out, HF_HUB_OFFLINE="1")
    done.assert_refused("org/tiny", "not in the cache")
    assert list(out.parent.iterdir()) == []


# --- what the Hub does not have, or does not give -------------------------------------------------


def refused(cli: HubCli, out: Path, *words: str, source: str = "org/tiny", **env: str) -> Finished:
    """Check that neither command does anything, and return what the second said."""
    cli("inspect", source, **env).assert_refused(*words)
    done = cli("convert", source, out, "--device", "cpu", **env)
    done.assert_refused(*words)
    assert list(out.parent.iterdir()) == []
    assert "hint: " in done.stderr
    return done


def test_a_repository_that_is_not_there(cli: HubCli, out: Path) -> None:
    done = refused(cli, out, "no repository org/absent", source="org/absent")
    assert "check the name" in done.stderr


@pytest.mark.parametrize("revision", ["absent", "0" * 40])
def test_a_revision_that_is_not_there(cli: HubCli, out: Path, revision: str) -> None:
    for command in (["inspect", f"org/tiny@{revision}"], ["convert", f"org/tiny@{revision}", out]):
        cli(*command).assert_refused("org/tiny", f"no revision '{revision}'")
    assert list(out.parent.iterdir()) == []


def test_a_repository_that_is_no_checkpoint(
    cli: HubCli, published: Published, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "README.md").write_text("# No model\n")
    published.hub.publish("org/text", tmp_path / "text")
    refused(cli, out, "org/text", "no config.json", source="org/text")


def test_a_repository_without_safetensors(
    cli: HubCli, published: Published, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "pickled").mkdir()
    shutil.copy(published.sharded / "config.json", tmp_path / "pickled")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(os.urandom(200_000))
    published.hub.publish("org/pickled", tmp_path / "pickled", lfs=("*.bin",))
    with published.hub.proxy.recording() as log:
        done = refused(cli, out, "org/pickled", "neither model.safetensors", source="org/pickled")
    assert "pickled weights are never opened" in done.stderr
    assert bodies(log, "*.bin") == []


def test_a_repository_that_is_gated(cli: HubCli, published: Published, out: Path) -> None:
    with published.hub.proxy.misbehaving(gated("*org/tiny*")):
        done = refused(cli, out, "org/tiny is gated")
    assert "licence" in done.stderr


def test_a_repository_whose_files_are_gated(cli: HubCli, published: Published, out: Path) -> None:
    """As the Hub has it: everybody may list the files, and not read them."""
    with published.hub.proxy.misbehaving(gated("*org/tiny/resolve/*")):
        refused(cli, out, "org/tiny is gated")


def test_a_token_that_is_wrong(cli: HubCli, published: Published, out: Path) -> None:
    with published.hub.proxy.misbehaving(invalid_token("*org/tiny*")):
        done = refused(cli, out, "does not know the token", HF_TOKEN="hf_wrong")
    assert "HF_TOKEN" in done.stderr
    assert "hf_wrong" not in done.stderr


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_busy_throughout(
    cli: HubCli, published: Published, out: Path, status: int
) -> None:
    busy = Fault("*org/tiny*", status=status, headers=NO_WAIT)
    with published.hub.proxy.misbehaving(busy):
        refused(cli, out, f"status {status}")


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_busy_for_a_moment_is_asked_again(
    cli: HubCli, published: Published, out: Path, status: int
) -> None:
    busy = Fault("*/resolve/*.safetensors", method="GET", status=status, headers=NO_WAIT, times=2)
    with published.hub.proxy.misbehaving(busy):
        done = cli("convert", "org/single", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    steps = {line.split()[0] for line in done.stderr.splitlines()}
    assert steps <= {"download", "write"}  # its retries are no news


def test_a_hub_that_cannot_be_reached(cli: HubCli, out: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    done = refused(cli, out, endpoint, "cannot be reached", HF_ENDPOINT=endpoint)
    assert "HF_ENDPOINT" in done.stderr


@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_hub_that_answers_with_something_else_ends(
    cli: HubCli, published: Published, out: Path, after: int
) -> None:
    """A login page of a network answers every request with 200 and a few bytes."""
    faults = [
        Fault("/cdn/*", method="GET", times=after),
        Fault("/cdn/*", method="GET", status=200),
    ]
    with published.hub.proxy.misbehaving(*faults):
        done = cli("convert", "org/single", out, timeout=40)
    assert done.code == 2
    assert not out.exists()


# --- a connection that is cut, and bytes that are wrong -------------------------------------------


def test_a_connection_that_is_cut_goes_on_where_it_ended(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    """Each request of a shard ends after 700,000 bytes."""
    cut = Fault("/cdn/*", method="GET", cut_after_bytes=700_000)
    with published.hub.proxy.recording() as log, published.hub.proxy.misbehaving(cut):
        done = cli("convert", "org/single", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    own = ("conv2linear.json", "README.md")
    assert contents(out, without=own) == contents(expected(published.single), without=own)
    parts = bodies(log, "model.safetensors")
    assert_each_byte_once(parts, 0, (published.single / "model.safetensors").stat().st_size)
    assert max(stop - start for start, stop in parts) == 700_000


def test_a_download_that_failed_goes_on_in_the_next_run(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    path = published.single / "model.safetensors"
    reads_of_the_header = Fault("/cdn/*", method="GET", times=2)
    cut = Fault("/cdn/*", method="GET", cut_after_bytes=1_000_000, times=1)
    broken = Fault("/cdn/*", method="GET", status=404)
    with published.hub.proxy.recording() as log:
        with published.hub.proxy.misbehaving(reads_of_the_header, cut, broken):
            failed = cli("convert", "org/single", out, "--device", "cpu")
        failed.assert_refused("404")
        assert not out.exists()
        assert cli("convert", "org/single", out, "--device", "cpu").code == 0
    data_start = read_header(path).data_start
    # Only what a run reads to open and check the shard is read by both.
    parts = sorted({part for part in bodies(log, path.name) if part[0] >= data_start})
    assert_each_byte_once(parts, data_start, path.stat().st_size)
    assert len(parts) > 1
    own = ("conv2linear.json", "README.md")
    assert contents(out, without=own) == contents(expected(published.single), without=own)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_server_that_ignores_ranges_does_no_harm(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    faults = [
        Fault("/cdn/*", method="GET", cut_after_bytes=1_500_000, ignore_range=True, times=4),
        Fault("/cdn/*", method="GET", ignore_range=True),
    ]
    with published.hub.proxy.misbehaving(*faults):
        assert cli("convert", "org/single", out, "--device", "cpu").code == 0
    own = ("conv2linear.json", "README.md")
    assert contents(out, without=own) == contents(expected(published.single), without=own)


@pytest.mark.parametrize("name", ["model.safetensors", "generation_config.json"])
def test_bytes_that_were_damaged_on_their_way_are_found(
    cli: HubCli, published: Published, out: Path, name: str
) -> None:
    size = (published.single / name).stat().st_size
    damage = Fault(f"*/{name}", method="GET", flip_byte=size - 1)
    with published.hub.proxy.misbehaving(damage):
        done = cli("convert", "org/single", out, "--device", "cpu")
    done.assert_refused(name, "hash")
    assert not out.exists()
    assert cli("convert", "org/single", out, "--device", "cpu").code == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
