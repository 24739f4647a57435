"""What the client has in its cache is used, and is all that is needed offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.published import HubCli, Published, assert_converted
from tests.support.contents import snapshot


def test_what_is_cached_is_cloned_and_not_downloaded(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    cli.warm_cache("org/tiny")
    before = snapshot(cli.home / "hub" / "models--org--tiny" / "blobs")
    with published.hub.recording() as log:
        inspected = cli("inspect", "org/tiny", "--json")
        done = cli("convert", "org/tiny", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    assert inspected.json["full"]["download_bytes"] == 0
    assert log.of("/cdn/*", "GET") == []
    assert log.of("*/resolve/*", "GET") == []
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert_converted(
        out,
        expected(published.sharded),
        repo_id="org/tiny",
        commit=published.main_commit,
        hub=published.hub.endpoint,
    )
    assert snapshot(cli.home / "hub" / "models--org--tiny" / "blobs") == before


def test_of_a_cache_that_has_a_part_only_the_rest_is_downloaded(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    shards = sorted(path.name for path in published.sharded.glob("*.safetensors"))
    cli.warm_cache("org/tiny", allow_patterns=[shards[0], shards[-1], "*.json"])
    with published.hub.recording() as log:
        assert cli("convert", "org/tiny", out, "--device", "cpu").code == 0
    asked = {path.rpartition("/")[2] for path in (e.path for e in log.of("/cdn/*", "GET"))}
    assert asked == set(shards[1:-1])
    assert_converted(
        out,
        expected(published.sharded),
        repo_id="org/tiny",
        commit=published.main_commit,
        hub=published.hub.endpoint,
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
    with published.hub.recording() as log:
        inspected = cli("inspect", "org/tiny", "--json", env={"HF_HUB_OFFLINE": "1"})
        done = cli("convert", "org/tiny", out, "--device", "cpu", env={"HF_HUB_OFFLINE": "1"})
    assert done.code == 0, done.stderr
    assert inspected.json["origin"]["commit_sha"] == published.main_commit
    assert log == []
    assert_converted(
        out,
        expected(published.sharded),
        repo_id="org/tiny",
        commit=published.main_commit,
        hub=published.hub.endpoint,
    )


@pytest.mark.parametrize("revision", [(), ("--revision", "absent")])
def test_offline_a_cold_cache_is_named(cli: HubCli, out: Path, revision: tuple[str, ...]) -> None:
    if revision:
        cli.warm_cache("org/tiny")
    done = cli("convert", "org/tiny", out, *revision, env={"HF_HUB_OFFLINE": "1"})
    done.assert_refused("org/tiny", "not in the cache", "HF_HUB_OFFLINE")
    assert list(out.parent.iterdir()) == []


def test_offline_a_cache_with_a_shard_missing_is_named(cli: HubCli, out: Path) -> None:
    cli.warm_cache("org/tiny", ignore_patterns=["model-00002-of-*"])
    done = cli("convert", "org/tiny", out, env={"HF_HUB_OFFLINE": "1"})
    done.assert_refused("org/tiny")
    # The client says so, or gives what it has as if it were all, and then the index says so.
    by_index = "shard model-00002-of-00009.safetensors is missing"
    assert "not in the cache" in done.stderr or by_index in done.stderr
    assert list(out.parent.iterdir()) == []
