"""A checkpoint on the Hub is read in pieces, and converted as its folder would be."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from conv2linear import inspect_checkpoint
from tests.hub.published import HubCli, Published, assert_converted, bodies, header_parts
from tests.support.checkpoints import WEIGHT


def test_inspect_says_of_a_repository_what_it_says_of_its_folder(
    cli: HubCli, published: Published
) -> None:
    done = cli("inspect", "org/tiny", "--json")
    assert done.code == 0
    found = done.json
    local = inspect_checkpoint(published.sharded)
    assert found["origin"] == {
        "repo_id": "org/tiny",
        "commit_sha": published.main_commit,
        "hub": published.hub.endpoint,
    }
    assert found["source"] == "org/tiny"
    for key in ("model_type", "layout", "quantization", "shard_count", "file_count", "total_bytes"):
        assert found[key] == getattr(local, key), key
    assert [e["name"] for e in found["embeddings"]] == [WEIGHT]
    assert found["refusal_reason"] is None
    config_bytes = (published.sharded / "config.json").stat().st_size
    assert found["full"]["download_bytes"] == local.total_bytes - config_bytes
    (shard,) = (embedding["shard"] for embedding in found["embeddings"])
    assert found["changed_only"]["download_bytes"] == (published.sharded / shard).stat().st_size


def test_inspect_moves_headers_and_no_shard(cli: HubCli, published: Published) -> None:
    with published.hub.recording() as log:
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
    with published.hub.recording() as log:
        done = cli("inspect", "org/long", "--json")
    assert done.json["layout"] == "conv3d"
    assert bodies(log, path.name) == header_parts(path)


@pytest.mark.parametrize("form", ["option", "suffix"])
@pytest.mark.parametrize("revision", ["main", "ocr", "first commit", "main commit"])
def test_a_revision_is_resolved_to_its_commit(
    cli: HubCli, published: Published, revision: str, form: str
) -> None:
    commits = {"first commit": published.first_commit, "main commit": published.main_commit}
    name = commits.get(revision, revision)
    arguments = ["org/tiny", "--revision", name] if form == "option" else [f"org/tiny@{name}"]
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
    with published.hub.recording() as log:
        found = cli("inspect", "org/tiny", "--json", cwd=tmp_path).json
        cli("inspect", "./org/nothing", cwd=tmp_path).assert_refused("no such folder")
    assert found["model_type"] == "glm_ocr"
    assert found["origin"] is None
    assert log == []


def test_a_repository_is_converted_as_its_folder_would_be(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    done = cli("convert", "org/tiny", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    assert_converted(
        out,
        expected(published.sharded),
        repo_id="org/tiny",
        commit=published.main_commit,
        hub=published.hub.endpoint,
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


def test_a_token_goes_to_the_hub_and_not_to_the_storage_behind_it(
    cli: HubCli, published: Published
) -> None:
    with published.hub.recording() as log:
        assert cli("inspect", "org/single", env={"HF_TOKEN": "hf_secret"}).code == 0
    assert {e.authorization for e in log.of("/api/models/*")} == {"Bearer hf_secret"}
    assert {e.authorization for e in log.of("/cdn/*")} == {None}


def test_a_dry_run_downloads_no_shard_and_tells_how_much_it_would(
    cli: HubCli, published: Published, out: Path
) -> None:
    with published.hub.recording() as log:
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
    with published.hub.recording() as log:
        cli("convert", "org/linear", out).assert_refused("org/linear", "linear already")
    linear = expected(published.single) / "model.safetensors"
    assert bodies(log, "*.safetensors") == header_parts(linear)
    assert list(out.parent.iterdir()) == []
