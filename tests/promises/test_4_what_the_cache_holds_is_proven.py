"""A file in the cache of the Hub's client is used only if its content is what the Hub lists."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.published import HubCli, Published, assert_converted
from tests.support.contents import snapshot
from tests.support.hub.exchanges import Log

SHARDS = ("model-00001-of-*", "model-00005-of-*")
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def cached(cli: HubCli, pattern: str) -> Path:
    """Return the file of the snapshot that a pattern names."""
    (path,) = (cli.home / "hub" / "models--org--tiny" / "snapshots").glob(f"*/{pattern}")
    return path


def flip_bit(path: Path) -> Path:
    """Change one bit in the last third of a file, and nothing that the file system shows."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-len(content) // 3] ^= 1
    path.resolve().write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path


def asked(log: Log) -> set[str]:
    return {e.path.rpartition("/")[2] for e in log if "/resolve/" in e.path and e.method == "GET"}


@pytest.mark.parametrize("mode", [(), ("--hardlink",), ("--changed-only",)])
def test_a_damaged_file_is_downloaded_instead(
    cli: HubCli,
    published: Published,
    expected: Callable[[Path], Path],
    out: Path,
    mode: tuple[str, ...],
) -> None:
    cli.warm_cache("org/tiny")
    names = (*SHARDS, "config.json", "README.md", "assets/*", "model.safetensors.index.json")
    damaged = [flip_bit(cached(cli, name)) for name in names]
    blobs = cli.home / "hub" / "models--org--tiny" / "blobs"
    before = snapshot(blobs)
    with published.hub.recording() as log:
        done = cli("convert", "org/tiny", out, "--device", "cpu", *mode)
    assert done.code == 0, done.stderr
    assert asked(log) <= {path.name for path in damaged}
    assert f"warning: {damaged[0].name} in the Hub's cache is damaged" in done.stderr
    if "--changed-only" not in mode:
        assert asked(log) == {path.name for path in damaged}
        assert_converted(
            out,
            expected(published.sharded),
            repo_id="org/tiny",
            commit=published.main_commit,
            hub=published.hub.endpoint,
        )
    else:
        assert (out / "config.json").read_bytes() == (
            expected(published.sharded) / "config.json"
        ).read_bytes()
    assert snapshot(blobs) == before


def test_what_is_not_a_complete_file_in_the_cache_is_downloaded(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    cli.warm_cache("org/tiny")
    shards = sorted(cached(cli, "config.json").parent.glob("*.safetensors"))
    link, short, folder, circle = shards[:4]
    link.unlink()
    link.symlink_to("../../blobs/absent")
    short.resolve().write_bytes(short.read_bytes()[:-1])
    folder.unlink()
    folder.mkdir()
    circle.unlink()
    circle.symlink_to(circle.name)
    (cli.home / "hub" / "models--org--tiny" / "blobs" / "0.incomplete").write_bytes(b"half")
    with published.hub.recording() as log:
        done = cli("convert", "org/tiny", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    assert asked(log) == {path.name for path in shards[:4]}
    assert_converted(
        out,
        expected(published.sharded),
        repo_id="org/tiny",
        commit=published.main_commit,
        hub=published.hub.endpoint,
    )


def test_a_ref_that_leads_to_another_commit_is_not_followed(
    cli: HubCli, published: Published, expected: Callable[[Path], Path], out: Path
) -> None:
    """The client takes a ref of the name of a commit for that commit."""
    cli.warm_cache("org/tiny", revision="ocr")
    refs = cli.home / "hub" / "models--org--tiny" / "refs"
    (refs / published.main_commit).write_text((refs / "ocr").read_text())
    done = cli("convert", "org/tiny", out, "--device", "cpu")
    assert done.code == 0, done.stderr
    assert_converted(
        out,
        expected(published.sharded),
        repo_id="org/tiny",
        commit=published.main_commit,
        hub=published.hub.endpoint,
    )


@pytest.mark.parametrize("name", [*SHARDS, "config.json", "assets/*"])
def test_offline_a_damaged_file_is_refused(cli: HubCli, out: Path, name: str) -> None:
    cli.warm_cache("org/tiny")
    path = flip_bit(cached(cli, name))
    done = cli("convert", "org/tiny", out, "--device", "cpu", env=OFFLINE)
    done.assert_refused("in the Hub's cache is damaged", str(path.resolve()))
    assert path.name in done.stderr
    assert not out.exists()


def test_offline_a_file_that_nothing_identifies_is_said_to_be_unchecked(
    cli: HubCli, published: Published, out: Path
) -> None:
    """As where the cache has no links, on a file system without them."""
    cli.warm_cache("org/tiny")
    for name in SHARDS:
        path = cached(cli, name)
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    runs = (
        ("inspect", "org/tiny"),
        ("convert", "org/tiny", out, "--device", "cpu", "--dry-run"),
        ("convert", "org/tiny", out, "--device", "cpu"),
        ("verify", out, "--source", "org/tiny", "--device", "cpu"),
    )
    for arguments in runs:
        done = cli(*arguments, env=OFFLINE)
        assert done.code == 0, done.stderr
        unchecked = "warning: 2 files in the Hub's cache cannot be checked offline"
        assert done.stderr.count(unchecked) == 1, arguments


@pytest.mark.parametrize("ref", [b"", b"\xff\xfe", b"main", b"../../elsewhere/" + b"a" * 40])
def test_offline_a_ref_that_names_no_commit_in_the_cache_is_not_followed(
    cli: HubCli, tmp_path: Path, ref: bytes
) -> None:
    cli.warm_cache("org/tiny")
    repository = cli.home / "hub" / "models--org--tiny"
    shutil.copytree(cached(cli, "config.json").parent, repository.parent / "elsewhere" / ("a" * 40))
    (repository / "refs" / "main").write_bytes(ref)
    cli("inspect", "org/tiny", env=OFFLINE).assert_refused("org/tiny")
